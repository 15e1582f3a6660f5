//! Opus (ETSI TS 103 491 §6, "Opus in MPEG-2 TS"): access units behind control headers.

use bytes::Bytes;
use relay_media::{Codec, Flags, opus};

use crate::{Quirk, clock::Stamp, demuxer::Outlet};

/// The most bytes of one Opus packet: 48 frames of 1 275 bytes with their lengths, and a few (RFC 6716 §3.4), rounded up.
const MAX_PACKET_BYTES: usize = 64 << 10;

/// Assembles the packets of one elementary stream.
#[derive(Debug)]
pub(crate) struct OpusFrames {
    channels: u8,
    /// Access units begin with a PES packet, and end within it.
    buffer: Vec<u8>,
    /// The time of the PES packet, and samples after it.
    base: Option<(i64, i64)>,
    is_broken: bool,
}

impl OpusFrames {
    pub(crate) fn new(channels: u8) -> Self {
        Self { channels, buffer: Vec::new(), base: None, is_broken: true }
    }

    pub(crate) fn start(&mut self, stamp: Option<Stamp>, outlet: &mut Outlet<'_>) {
        self.damage(outlet);
        self.is_broken = false;
        if let Some(stamp) = stamp {
            self.base = Some((stamp.pts, 0));
        }
    }

    pub(crate) fn payload(&mut self, bytes: &[u8], outlet: &mut Outlet<'_>) {
        if self.is_broken {
            return;
        }
        self.buffer.extend_from_slice(bytes);
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            match control_header(rest) {
                Control::Incomplete => break,
                Control::Unit { header, packet } if packet <= MAX_PACKET_BYTES => {
                    let Some(packet) = rest.get(header..header + packet) else { break };
                    done += header + packet.len();
                    emit(self.channels, &mut self.base, packet, outlet);
                }
                Control::Unit { .. } | Control::Invalid => {
                    outlet.count(Quirk::OpusInvalid);
                    outlet.track.discontinuity = true;
                    self.is_broken = true;
                    return self.buffer.clear();
                }
            }
        }
        self.buffer.drain(..done);
    }

    /// What has come in part will not be completed.
    pub(crate) fn damage(&mut self, outlet: &mut Outlet<'_>) {
        if !self.buffer.is_empty() {
            outlet.count(Quirk::UnitDamaged);
            outlet.track.discontinuity = true;
        }
        self.buffer.clear();
        self.is_broken = true;
    }
}

fn emit(channels: u8, base: &mut Option<(i64, i64)>, packet: &[u8], outlet: &mut Outlet<'_>) {
    let Some(ticks) = opus::packet_ticks(packet) else { return outlet.count(Quirk::OpusInvalid) };
    let Some((base, samples)) = base else { return outlet.count(Quirk::TimestampMissing) };
    let time = base.saturating_add(*samples * 90_000 / i64::from(opus::CLOCK_HZ));
    *samples += i64::from(ticks);
    outlet.set_codec(Codec::Opus(opus::Config { channels }));
    outlet.emit(Stamp { pts: time, dts: time }, Bytes::copy_from_slice(packet), Flags::empty());
}

enum Control {
    Incomplete,
    Invalid,
    /// The lengths of a control header and of the packet behind it.
    Unit {
        header: usize,
        packet: usize,
    },
}

/// `opus_control_header()`: 11 bits of prefix, three flags, the size in bytes of 255 and a last one, what the flags say.
fn control_header(bytes: &[u8]) -> Control {
    let [first, flags, rest @ ..] = bytes else { return Control::Incomplete };
    if u16::from_be_bytes([*first, *flags]) & 0xffe0 != 0x7fe0 {
        return Control::Invalid;
    }
    let full = rest.iter().take_while(|byte| **byte == 0xff).count();
    if full * 255 > MAX_PACKET_BYTES {
        return Control::Invalid;
    }
    let Some(last) = rest.get(full) else { return Control::Incomplete };
    let mut header = 2 + full + 1;
    // start_trim, end_trim: samples that players leave out; they matter at the ends of a file.
    header += if flags & 0x10 != 0 { 2 } else { 0 } + if flags & 0x08 != 0 { 2 } else { 0 };
    if flags & 0x04 != 0 {
        let Some(extension) = bytes.get(header) else { return Control::Incomplete };
        header += 1 + usize::from(*extension);
    }
    Control::Unit { header, packet: full * 255 + usize::from(*last) }
}
