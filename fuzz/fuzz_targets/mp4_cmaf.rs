#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_mp4::CmafReader;

fuzz_target!(|input: (u16, &[u8])| {
    let (piece, bytes) = input;
    let mut reader = CmafReader::new();
    for bytes in bytes.chunks(usize::from(piece).max(1)) {
        if reader.push(bytes).is_err() {
            reader.finish();
        }
        while reader.poll().is_some() {}
    }
    reader.finish();
});
