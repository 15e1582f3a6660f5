//! Packets that a robust reader counts and throws away.

/// RTP payloads that are wrong in H.264 (RFC 6184) and H.265 (RFC 7798) alike or in one of them.
pub(crate) fn units() -> impl Iterator<Item = &'static [u8]> {
    const UNITS: [&[u8]; 9] = [
        // Nothing at all.
        b"",
        // FU-A: indicator only; middle and end without a start; start and end in one (§5.8 forbids).
        b"\x7c",
        b"\x7c\x05middle of nothing",
        b"\x7c\x45end of nothing",
        b"\x7c\xc5all in one",
        // STAP-A: a length that runs past the packet; a length of zero; a cut length.
        b"\x78\xff\xffshort",
        b"\x78\0\0\0",
        b"\x78\0",
        // Type 30, reserved; as H.265, forbidden_zero_bit set.
        b"\xfe\xff\xff",
    ];
    UNITS.into_iter()
}

/// Packets whose RTP header is wrong (RFC 3550 §5.1).
pub(crate) fn packets() -> impl Iterator<Item = &'static [u8]> {
    const PACKETS: [&[u8]; 4] = [
        // Shorter than the header.
        b"\x80\x60\0\x01",
        // Version 0.
        b"\0\x60\0\x01\0\0\0\0\0\0\0\0body",
        // 15 contributing sources that aren't there.
        b"\x8f\x60\0\x01\0\0\0\0\0\0\0\0",
        // An extension whose length runs past the packet.
        b"\x90\x60\0\x01\0\0\0\0\0\0\0\0\xbe\xde\xff\xff",
    ];
    PACKETS.into_iter()
}
