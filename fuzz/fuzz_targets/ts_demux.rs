//! Any bytes: no panic, no unit without bytes, the same units however they are cut.
#![no_main]

use relay_ts::{AfterLoss, Demuxer, Unit};

libfuzzer_sys::fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = units(bytes, bytes.len().max(1));
    assert!(whole.iter().all(|unit| !unit.payload.is_empty()));
    assert_eq!(whole, units(bytes, usize::from(piece) + 1));
});

fn units(bytes: &[u8], piece: usize) -> Vec<Unit> {
    let mut demuxer = Demuxer::new(AfterLoss::PassOn);
    bytes.chunks(piece).for_each(|piece| demuxer.push(piece));
    demuxer.finish();
    std::iter::from_fn(|| demuxer.poll()).collect()
}
