#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_mp4::{Scan, Scanner, read_samples};

fuzz_target!(|file: &[u8]| {
    let mut scanner = Scanner::new(file.len() as u64);
    while let Some(range) = scanner.wants() {
        scanner.supply(&file[range.start as usize..range.end as usize]);
    }
    if let Scan::Fragments(muxer) = scanner.finish() {
        let _ = muxer.finish();
    }
    let _ = read_samples(file);
});
