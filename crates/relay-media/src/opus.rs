//! Opus (RFC 6716), its packets and their durations.

/// Opus timestamps always count 48 kHz, whatever the audio bandwidth (RFC 7587 §4.1).
pub const CLOCK_HZ: u32 = 48_000;

/// The parameters of an Opus track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// 1 or 2.
    pub channels: u8,
}

/// The duration of one Opus packet in ticks of 48 kHz, from its TOC byte and frame count (RFC 6716 §3.1–3.2);
/// `None` for an empty packet, a code 3 packet without its count, or more than 120 ms.
pub fn packet_ticks(packet: &[u8]) -> Option<u32> {
    /// 120 ms, the most a packet may hold (RFC 6716 §3.2.5).
    const MAX_TICKS: u32 = 5_760;
    let toc = *packet.first()?;
    let frame = match (toc >> 3, (toc >> 3) & 3) {
        (0..=11, 0) => 480,
        (0..=11, 1) => 960,
        (0..=11, 2) => 1_920,
        (0..=11, _) => 2_880,
        (12..=15, size) => 480 << (size & 1),
        (_, size) => 120 << size,
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    Some(frame * frames).filter(|ticks| (1..=MAX_TICKS).contains(ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_durations_follow_the_toc_byte() {
        for (packet, ticks) in [
            (&[0xfc_u8][..], Some(960)),
            (&[0x78], Some(960)),
            (&[0x08], Some(960)),
            (&[0xfd], Some(1_920)),
            (&[0xff, 3], Some(2_880)),
            (&[0xff, 7], None),
            (&[0xff], None),
            (&[0xff, 0], None),
            (&[], None),
        ] {
            assert_eq!(packet_ticks(packet), ticks, "{packet:02x?}");
        }
    }
}
