//! ITU-T H.264: the parameter sets of a track, and what a NAL unit's first bytes say.
//!
//! Section numbers are those of the 08/2021 edition. The `avcC` box's content is in `avcc.rs`, the SPS in `sps.rs`.

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader};

use crate::{BitstreamError, nal};

mod avcc;
mod sps;

/// `nal_unit_type` of a slice of a picture that is not IDR (Table 7-1).
pub const NAL_SLICE: u8 = 1;
/// `nal_unit_type` of a slice of an IDR picture.
pub const NAL_IDR: u8 = 5;
/// `nal_unit_type` of supplemental enhancement information.
pub const NAL_SEI: u8 = 6;
/// `nal_unit_type` of a sequence parameter set.
pub const NAL_SPS: u8 = 7;
/// `nal_unit_type` of a picture parameter set.
pub const NAL_PPS: u8 = 8;
/// `nal_unit_type` of an access unit delimiter.
pub const NAL_AUD: u8 = 9;
/// `nal_unit_type` of an end of sequence.
pub const NAL_END_OF_SEQUENCE: u8 = 10;
/// `nal_unit_type` of an end of stream.
pub const NAL_END_OF_STREAM: u8 = 11;
/// `nal_unit_type` of filler data.
pub const NAL_FILLER: u8 = 12;

/// The most bytes of an SPS or PPS that are looked at. Real ones have 10 to 100; the largest lawful SPS (all
/// scaling lists, 255 reference offsets, two HRDs of 32 buffers) stays below this.
pub const MAX_PARAMETER_SET_BYTES: usize = 4_096;

/// `nal_unit_type` from a NAL unit's first byte (§7.3.1).
pub const fn nal_type(header: u8) -> u8 {
    header & 0x1f
}

/// `nal_ref_idc` from a NAL unit's first byte: 0 means that no other picture refers to it (§7.4.1).
pub const fn nal_ref_idc(header: u8) -> u8 {
    (header >> 5) & 3
}

/// A slice of an IDR picture, by the NAL unit's first byte.
pub const fn is_idr(header: u8) -> bool {
    nal_type(header) == NAL_IDR
}

/// A slice or slice data partition, by the NAL unit's first byte (Table 7-1: types 1 to 5).
pub const fn is_slice(header: u8) -> bool {
    matches!(nal_type(header), 1..=5)
}

/// The NAL unit is the first slice of a picture: `first_mb_in_slice` is 0 (§7.3.3), which is a single 1 bit.
///
/// Encoders with arbitrary slice order (Baseline only, unseen in cameras) may start elsewhere.
pub fn is_first_slice(nal: &[u8]) -> bool {
    matches!(nal, [header, body, ..] if matches!(nal_type(*header), 1 | 2 | 5) && body & 0x80 != 0)
}

/// `recovery_frame_cnt` if the NAL unit is an SEI with a recovery point message (§D.1.8): that many pictures after
/// this one are right again although decoding starts here; 0 is as good as a key frame.
pub fn recovery_point(nal: &[u8]) -> Option<u16> {
    /// `payloadType` of a recovery point (§D.1.1).
    const RECOVERY_POINT: usize = 6;
    let (header, body) = nal.split_first()?;
    if nal_type(*header) != NAL_SEI {
        return None;
    }
    // The message stands among the first ones where it is used at all: 256 bytes are enough to find it.
    let body = nal::rbsp(body.get(..256).unwrap_or(body));
    let mut rest = body.as_slice();
    while rest.len() > 1 {
        let kind = sei_number(&mut rest)?;
        let size = sei_number(&mut rest)?;
        let payload = rest.get(..size)?;
        if kind == RECOVERY_POINT {
            let count = BitReader::new(payload).read_ue("recovery_frame_cnt").ok()?;
            return u16::try_from(count).ok();
        }
        rest = rest.get(size..)?;
    }
    None
}

/// A payload type or size: 255 for each 0xff byte, plus the last byte (§7.3.2.3.1).
fn sei_number(rest: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    loop {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        number += usize::from(*byte);
        if *byte != 0xff {
            return Some(number);
        }
    }
}

/// The parameters of an H.264 track: its SPS and PPS, and what they say.
///
/// Two are equal when their parameter sets are, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    sps: Bytes,
    pps: Bytes,
    facts: sps::Facts,
}

impl Config {
    /// Reads an SPS and a PPS, each from its header byte on.
    ///
    /// Tolerates what cameras send: start codes around or between the parameter sets (V380; the first SPS and the
    /// first PPS count), zeros or other bytes after the SPS (Reolink), a damaged VUI.
    ///
    /// # Errors
    /// A parameter set is missing, cut short, longer than [`MAX_PARAMETER_SET_BYTES`] or of another type; the
    /// picture has no size or more than 16 384 lines or columns; the PPS refers to another SPS.
    pub fn parse(sps: &[u8], pps: &[u8]) -> Result<Self, BitstreamError> {
        let sps = pick("H.264 SPS", sps, NAL_SPS)?;
        let pps = pick("H.264 PPS", pps, NAL_PPS)?;
        let facts = sps::read(sps)?;
        sps::check_pps(pps, facts.id)?;
        Ok(Self { sps: Bytes::copy_from_slice(sps), pps: Bytes::copy_from_slice(pps), facts })
    }

    /// Reads an AVCDecoderConfigurationRecord, the content of an `avcC` box (ISO/IEC 14496-15 §5.3.3.1).
    ///
    /// Of several parameter sets the first SPS and the first PPS that fit are taken.
    ///
    /// # Errors
    /// It is cut short or of another version, its NAL lengths have not 4 bytes, or as [`parse`](Self::parse).
    pub fn from_avcc(avcc: &[u8]) -> Result<Self, BitstreamError> {
        avcc::read(avcc)
    }

    /// The AVCDecoderConfigurationRecord with 4-byte NAL lengths (ISO/IEC 14496-15 §5.3.3.1).
    pub fn avcc(&self) -> Bytes {
        avcc::write(self)
    }

    /// The SPS, from its header byte on.
    pub fn sps(&self) -> &Bytes {
        &self.sps
    }

    /// The PPS, from its header byte on.
    pub fn pps(&self) -> &Bytes {
        &self.pps
    }

    /// Columns of the picture shown, after cropping, in luma samples; at least 1.
    pub fn width(&self) -> u32 {
        self.facts.width
    }

    /// Lines of the picture shown, after cropping, in luma samples; at least 1. A frame's, also if interlaced.
    pub fn height(&self) -> u32 {
        self.facts.height
    }

    /// `profile_idc` (§7.4.2.1.1).
    pub fn profile_idc(&self) -> u8 {
        self.facts.profile_idc
    }

    /// The byte after `profile_idc`: `constraint_set0_flag` in the top bit, and so on.
    pub fn constraint_flags(&self) -> u8 {
        self.facts.constraint_flags
    }

    /// `level_idc`: ten times the level's number, but for level 1b (§A.3).
    pub fn level_idc(&self) -> u8 {
        self.facts.level_idc
    }

    /// The three bytes after the SPS's header in hex, as SDP (RFC 6184 §8.1) and RFC 6381 §3.3 want them: `"42e01f"`.
    pub fn profile_level_id(&self) -> String {
        format!("{:02x}{:02x}{:02x}", self.profile_idc(), self.constraint_flags(), self.level_idc())
    }

    /// The profile's name as Annex A prints it; "Unknown" for one that it doesn't list.
    pub fn profile_name(&self) -> &'static str {
        let constraint = |set: u32| self.constraint_flags() & (0x80 >> set) != 0;
        match self.profile_idc() {
            66 if constraint(1) => "Constrained Baseline",
            66 => "Baseline",
            77 => "Main",
            88 => "Extended",
            100 if constraint(4) && constraint(5) => "Constrained High",
            100 if constraint(4) => "Progressive High",
            100 => "High",
            110 if constraint(3) => "High 10 Intra",
            110 => "High 10",
            122 if constraint(3) => "High 4:2:2 Intra",
            122 => "High 4:2:2",
            244 if constraint(3) => "High 4:4:4 Intra",
            244 => "High 4:4:4 Predictive",
            44 => "CAVLC 4:4:4 Intra",
            83 => "Scalable Baseline",
            86 => "Scalable High",
            118 => "Multiview High",
            128 => "Stereo High",
            _ => "Unknown",
        }
    }

    /// The level as it is spoken: `"3.1"`, `"4"`, `"1b"` (§A.3.1).
    pub fn level_name(&self) -> String {
        let one_b = matches!(self.profile_idc(), 66 | 77 | 88) && self.constraint_flags() & 0x10 != 0;
        match self.level_idc() {
            9 => "1b".to_owned(),
            11 if one_b => "1b".to_owned(),
            idc if idc % 10 == 0 => (idc / 10).to_string(),
            idc => format!("{}.{}", idc / 10, idc % 10),
        }
    }

    /// Frames per second as a reduced fraction (numerator, denominator), from the VUI's timing (§E.2.1).
    ///
    /// `None` if it isn't said, or is above 1 000 or below 1/60, which only broken encoders say.
    pub fn fps(&self) -> Option<(u32, u32)> {
        self.facts.fps
    }

    /// How many frames may precede a frame in decoding order and follow it in output order (§E.2.1).
    ///
    /// `Some(0)`: decoding order is output order (Baseline, intra-only, `pic_order_cnt_type` 2, or the VUI says so).
    /// `None`: not said, it may be as many as 16.
    pub fn max_reorder_frames(&self) -> Option<u8> {
        self.facts.max_reorder_frames
    }

    /// More than one field per frame may be coded (`frame_mbs_only_flag` 0, §7.4.2.1.1).
    pub fn may_be_interlaced(&self) -> bool {
        self.facts.may_be_interlaced
    }
}

/// The one NAL unit of `kind` in `bytes`, which should be nothing else.
fn pick<'a>(what: &'static str, bytes: &'a [u8], kind: u8) -> Result<&'a [u8], BitstreamError> {
    let nal = nal::split_annex_b(bytes).find(|nal| nal.first().is_some_and(|&header| nal_type(header) == kind));
    match nal {
        None => Err(BitstreamError::new(what, format!("no NAL unit of type {kind} in {} bytes", bytes.len()))),
        Some(nal) if nal.len() > MAX_PARAMETER_SET_BYTES => {
            Err(BitstreamError::new(what, format!("{} bytes, at most {MAX_PARAMETER_SET_BYTES} are read", nal.len())))
        }
        Some(nal) => Ok(nal),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nal::tests::hex;

    /// What ffmpeg 5.1.9 (libx264) writes for `-f lavfi -i testsrc2=s=SIZE:r=RATE -pix_fmt yuv420p`, and these.
    #[derive(Clone, Debug)]
    struct Row {
        options: &'static str,
        sps: &'static str,
        pps: &'static str,
        size: (u32, u32),
        profile: &'static str,
        level: &'static str,
        fps: (u32, u32),
        reorder: u8,
        interlaced: bool,
        /// The content of the `avcC` box that ffmpeg writes.
        avcc_tail: &'static str,
    }

    const ROWS: [Row; 6] = [
        Row {
            options: "s=1280x720:r=25 -profile:v baseline -level 3.1",
            sps: "6742c01fd9005005bb011000000300100000030320f1832480",
            pps: "68cb83cb20",
            size: (1_280, 720),
            profile: "Constrained Baseline",
            level: "3.1",
            fps: (25, 1),
            reorder: 0,
            interlaced: false,
            avcc_tail: "",
        },
        Row {
            options: "s=1920x1080:r=30000/1001 -profile:v main -level 4",
            sps: "674d4028eca03c0113f2e022000007d20001d4c01e30632c",
            pps: "68ebe3cb20",
            size: (1_920, 1_080),
            profile: "Main",
            level: "4",
            fps: (30_000, 1_001),
            reorder: 2,
            interlaced: false,
            avcc_tail: "",
        },
        Row {
            options: "s=640x360:r=15 -profile:v high -tune zerolatency",
            sps: "67640016acb201405ff2e0220000030002000003003d1e2c5c90",
            pps: "68ebc3cb22c0",
            size: (640, 360),
            profile: "High",
            level: "2.2",
            fps: (15, 1),
            reorder: 0,
            interlaced: false,
            avcc_tail: "fdf8f800",
        },
        Row {
            options: "s=1920x1080:r=50 -profile:v high",
            sps: "6764002aacd940780227e5c044000003000400000301903c60c658",
            pps: "68ebe3cb22c0",
            size: (1_920, 1_080),
            profile: "High",
            level: "4.2",
            fps: (50, 1),
            reorder: 2,
            interlaced: false,
            avcc_tail: "fdf8f800",
        },
        Row {
            options: "s=1920x1080:r=25 -profile:v high -flags +ildct+ilme -x264-params tff=1",
            sps: "67640028acd94078044fde0220000003002000000643e2c5b2c0",
            pps: "68fba3cb22c0",
            size: (1_920, 1_080),
            profile: "High",
            level: "4",
            fps: (25, 1),
            reorder: 2,
            interlaced: true,
            avcc_tail: "fdf8f800",
        },
        Row {
            options: "s=426x240:r=24 -pix_fmt yuv422p10le",
            sps: "677a0015b6cd941b1fe4f011000003000100000300300f162d96",
            pps: "68ebe3cb22c0",
            size: (426, 240),
            profile: "High 4:2:2",
            level: "2.1",
            fps: (24, 1),
            reorder: 2,
            interlaced: false,
            avcc_tail: "fefafa00",
        },
    ];

    #[test]
    fn parameter_sets_of_x264_say_what_was_asked_for() {
        for row in ROWS {
            let (sps, pps) = (hex(row.sps), hex(row.pps));
            let config = Config::parse(&sps, &pps).unwrap();
            assert_eq!((config.width(), config.height()), row.size, "{}", row.options);
            assert_eq!(config.profile_name(), row.profile, "{}", row.options);
            assert_eq!(config.level_name(), row.level, "{}", row.options);
            assert_eq!(config.fps(), Some(row.fps), "{}", row.options);
            assert_eq!(config.max_reorder_frames(), Some(row.reorder), "{}", row.options);
            assert_eq!(config.may_be_interlaced(), row.interlaced, "{}", row.options);
            assert_eq!(config.profile_level_id(), row.sps[2..8], "{}", row.options);
            let head = format!("01{}ffe1{:04x}{}", &row.sps[2..8], sps.len(), row.sps);
            let avcc = hex(&format!("{head}01{:04x}{}{}", pps.len(), row.pps, row.avcc_tail));
            assert_eq!(config.avcc(), avcc, "{}", row.options);
            assert_eq!(Config::from_avcc(&avcc).unwrap(), config, "{}", row.options);
        }
    }

    #[test]
    fn cameras_are_forgiven() {
        let (sps, pps) = (hex(ROWS[3].sps), hex(ROWS[3].pps));
        let clean = Config::parse(&sps, &pps).unwrap();
        let sprop = [b"\0\0\0\x01", &*sps, b"\0\0\x01", &*pps, b"\0\0\0\x01"].concat();
        for (camera, sps, pps) in [
            ("V380: start codes around", &[b"\0\0\0\x01", &*sps].concat(), &[&*pps, b"\0\0\x01"].concat()),
            ("V380: both in one", &sprop, &sprop),
            ("trailing zeros", &[&*sps, b"\0\0\0"].concat(), &[&*pps, b"\0"].concat()),
        ] {
            assert_eq!(Config::parse(sps, pps).unwrap(), clean, "{camera}");
        }
        for (camera, sps, fps) in [
            ("Reolink: a byte behind the SPS", [&*sps, b"\x80"].concat(), Some((50, 1))),
            ("VUI cut short", sps[..13].to_vec(), None),
        ] {
            let config = Config::parse(&sps, &pps).unwrap();
            assert_eq!((config.width(), config.height(), config.fps()), (1_920, 1_080, fps), "{camera}");
            assert_eq!(config.sps(), &sps, "{camera}");
        }
    }

    #[test]
    fn what_decodes_nothing_is_refused() {
        let (sps, pps) = (hex(ROWS[0].sps), hex(ROWS[0].pps));
        let big = [&*sps, &[1; MAX_PARAMETER_SET_BYTES]].concat();
        for (sps, pps, part) in [
            (&b""[..], &*pps, "no NAL unit of type 7"),
            (&pps, &sps, "no NAL unit of type 7"),
            (&sps, &sps, "no NAL unit of type 8"),
            (&sps[..6], &pps, "max_num_ref_frames"),
            (&sps, b"\x68", "pic_parameter_set_id"),
            (&sps, b"\x68\xa0", "refers to SPS 1"),
            (&big, &pps, "at most 4096"),
        ] {
            let error = Config::parse(sps, pps).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} should say {part:?}");
        }
        let avcc = Config::parse(&sps, &pps).unwrap().avcc();
        for len in 0..avcc.len() {
            Config::from_avcc(&avcc[..len]).unwrap_err();
        }
        Config::from_avcc(&[&[0], &avcc[1..]].concat()).unwrap_err();
        Config::from_avcc(&[&avcc[..4], &[0xfd], &avcc[5..]].concat()).unwrap_err();
    }

    #[test]
    fn levels_are_spoken_as_in_annex_a() {
        for (head, name) in
            [("42e00b", "1.1"), ("42f00b", "1b"), ("64000b", "1.1"), ("640009", "1b"), ("640034", "5.2")]
        {
            let sps = format!("67{head}{}", if head.starts_with("64") { &ROWS[3].sps[8..] } else { &ROWS[0].sps[8..] });
            let config = Config::parse(&hex(&sps), &hex(ROWS[0].pps)).unwrap();
            assert_eq!(config.level_name(), name, "{head}");
        }
    }

    #[test]
    fn first_bytes_tell_the_kind() {
        for (nal, idr, reference, first) in [
            (&b"\x65\x88"[..], true, 3, true),
            (b"\x65\x08", true, 3, false),
            (b"\x41\x9a", false, 2, true),
            (b"\x01\x9a", false, 0, true),
            (b"\x67\xff", false, 3, false),
            (b"\x65", true, 3, false),
        ] {
            assert_eq!((is_idr(nal[0]), nal_ref_idc(nal[0]), is_first_slice(nal)), (idr, reference, first), "{nal:x?}");
        }
    }

    #[test]
    fn recovery_points_are_found_behind_other_messages() {
        for (nal, frames) in [
            (&b"\x06\x06\x01\xc4\x80"[..], Some(0)),
            (b"\x06\x06\x01\x44\x80", Some(1)),
            (b"\x06\x01\x01\x32\x06\x02\x08\x24\x80", Some(15)),
            (b"\x06\x05\x02\xaa\xaa\x80", None),
            (b"\x06\x06\x09\xc4\x80", None),
            (b"\x06\x06\x00\x80", None),
            (b"\x65\x06\x01\xc4\x80", None),
            (b"", None),
        ] {
            assert_eq!(recovery_point(nal), frames, "{nal:02x?}");
        }
    }

    fn damaged_sps() -> impl Strategy<Value = Vec<u8>> {
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (prop::sample::select(&ROWS[..]), damage, any::<prop::sample::Index>()).prop_map(|(row, damage, len)| {
            let mut sps = hex(row.sps);
            for (at, byte) in damage {
                let at = at.index(sps.len());
                sps[at] = byte;
            }
            sps.truncate(len.index(40));
            sps
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(
            sps in prop_oneof![damaged_sps(), prop::collection::vec(any::<u8>(), 0..80)],
            pps in prop_oneof![Just(hex(ROWS[0].pps)), prop::collection::vec(any::<u8>(), 0..20)],
        ) {
            recovery_point(&sps);
            if let Ok(config) = Config::parse(&sps, &pps) {
                prop_assert_eq!(Config::from_avcc(&config.avcc()).unwrap(), config);
            }
        }

        #[test]
        fn any_record_is_read(avcc in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Config::from_avcc(&avcc);
            let _ = Config::from_avcc(&[&[1, 66, 0, 30, 0xff], &*avcc].concat());
        }
    }
}
