//! ITU-T H.265: the parameter sets of a track, and what a NAL unit's first bytes say.
//!
//! Section numbers are those of the 08/2021 edition. The `hvcC` box's content is in `hvcc.rs`, the SPS in `sps.rs`.

use bytes::Bytes;

use crate::{BitstreamError, nal};

mod hvcc;
mod sps;

/// `nal_unit_type` of the first IRAP picture kind, BLA_W_LP (Table 7-1).
pub const NAL_BLA_W_LP: u8 = 16;
/// `nal_unit_type` of an IDR picture that may have decodable leading pictures.
pub const NAL_IDR_W_RADL: u8 = 19;
/// `nal_unit_type` of an IDR picture without leading pictures.
pub const NAL_IDR_N_LP: u8 = 20;
/// `nal_unit_type` of a clean random access picture.
pub const NAL_CRA: u8 = 21;
/// `nal_unit_type` of a video parameter set.
pub const NAL_VPS: u8 = 32;
/// `nal_unit_type` of a sequence parameter set.
pub const NAL_SPS: u8 = 33;
/// `nal_unit_type` of a picture parameter set.
pub const NAL_PPS: u8 = 34;
/// `nal_unit_type` of an access unit delimiter.
pub const NAL_AUD: u8 = 35;
/// `nal_unit_type` of an end of sequence.
pub const NAL_END_OF_SEQUENCE: u8 = 36;
/// `nal_unit_type` of an end of bitstream.
pub const NAL_END_OF_BITSTREAM: u8 = 37;
/// `nal_unit_type` of filler data.
pub const NAL_FILLER: u8 = 38;
/// `nal_unit_type` of supplemental enhancement information before the slices.
pub const NAL_PREFIX_SEI: u8 = 39;
/// `nal_unit_type` of supplemental enhancement information after the slices.
pub const NAL_SUFFIX_SEI: u8 = 40;

/// The most bytes of a VPS, SPS or PPS that are looked at; real ones have 10 to 200.
pub const MAX_PARAMETER_SET_BYTES: usize = 4_096;

/// `nal_unit_type` from a NAL unit's first byte (§7.3.1.2).
pub const fn nal_type(header: u8) -> u8 {
    (header >> 1) & 0x3f
}

/// A slice segment, by the NAL unit's first byte (Table 7-1: types 0 to 31).
pub const fn is_slice(header: u8) -> bool {
    nal_type(header) < 32
}

/// A slice segment of an intra random access point (IDR, BLA or CRA), by the NAL unit's first byte (§7.4.2.2).
pub const fn is_irap(header: u8) -> bool {
    matches!(nal_type(header), 16..=23)
}

/// A slice segment of an IDR picture, by the NAL unit's first byte.
pub const fn is_idr(header: u8) -> bool {
    matches!(nal_type(header), NAL_IDR_W_RADL | NAL_IDR_N_LP)
}

/// A slice segment of a sub-layer non-reference picture (the even types below 16), by the NAL unit's first byte:
/// no other picture of its temporal sub-layer refers to it (Table 7-1).
///
/// Pictures of *higher* sub-layers may. With a single sub-layer, or in the highest one, it is disposable.
pub const fn is_sub_layer_non_reference(header: u8) -> bool {
    let kind = nal_type(header);
    kind < 16 && kind.is_multiple_of(2)
}

/// `TemporalId` from a NAL unit's second byte (§7.4.2.2), 0 for the base sub-layer.
pub const fn temporal_id(second: u8) -> u8 {
    (second & 7).saturating_sub(1)
}

/// The NAL unit is the first slice segment of a picture (`first_slice_segment_in_pic_flag`, §7.3.6.1).
pub fn is_first_slice(nal: &[u8]) -> bool {
    matches!(nal, [header, _, body, ..] if is_slice(*header) && body & 0x80 != 0)
}

/// The parameters of an H.265 track: its VPS, SPS and PPS, and what they say.
///
/// Two are equal when their parameter sets are, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    vps: Bytes,
    sps: Bytes,
    pps: Bytes,
    facts: sps::Facts,
}

impl Config {
    /// Reads a VPS, an SPS and a PPS, each from its two header bytes on.
    ///
    /// Tolerates start codes around or between the parameter sets (the first of each type counts), zeros or other
    /// bytes after them, and a damaged VUI.
    ///
    /// # Errors
    /// A parameter set is missing, cut short, longer than [`MAX_PARAMETER_SET_BYTES`] or of another type; the
    /// picture has no size or more than 16 384 lines or columns; the PPS refers to another SPS.
    pub fn parse(vps: &[u8], sps: &[u8], pps: &[u8]) -> Result<Self, BitstreamError> {
        let vps = pick("H.265 VPS", vps, NAL_VPS)?;
        let sps = pick("H.265 SPS", sps, NAL_SPS)?;
        let pps = pick("H.265 PPS", pps, NAL_PPS)?;
        let mut facts = sps::read(sps)?;
        sps::check_pps(pps, facts.id)?;
        facts.fps = facts.fps.or_else(|| sps::vps_fps(vps));
        let own = Bytes::copy_from_slice;
        Ok(Self { vps: own(vps), sps: own(sps), pps: own(pps), facts })
    }

    /// Reads an HEVCDecoderConfigurationRecord, the content of an `hvcC` box (ISO/IEC 14496-15 §8.3.3.1).
    ///
    /// Of several parameter sets the first of each type counts.
    ///
    /// # Errors
    /// It is cut short or of another version, its NAL lengths have not 4 bytes, or as [`parse`](Self::parse).
    pub fn from_hvcc(hvcc: &[u8]) -> Result<Self, BitstreamError> {
        hvcc::read(hvcc)
    }

    /// The HEVCDecoderConfigurationRecord with 4-byte NAL lengths (ISO/IEC 14496-15 §8.3.3.1).
    pub fn hvcc(&self) -> Bytes {
        hvcc::write(self)
    }

    /// The VPS, from its header bytes on.
    pub fn vps(&self) -> &Bytes {
        &self.vps
    }

    /// The SPS, from its header bytes on.
    pub fn sps(&self) -> &Bytes {
        &self.sps
    }

    /// The PPS, from its header bytes on.
    pub fn pps(&self) -> &Bytes {
        &self.pps
    }

    /// Columns of the picture shown, after the conformance window, in luma samples; at least 1.
    pub fn width(&self) -> u32 {
        self.facts.width
    }

    /// Lines of the picture shown, after the conformance window, in luma samples; at least 1.
    pub fn height(&self) -> u32 {
        self.facts.height
    }

    /// `general_profile_idc` (§7.4.4).
    pub fn profile_idc(&self) -> u8 {
        self.facts.general[0] & 0x1f
    }

    /// `general_tier_flag`: false is Main tier, true is High tier (§A.4).
    pub fn is_high_tier(&self) -> bool {
        self.facts.general[0] & 0x20 != 0
    }

    /// `general_level_idc`: thirty times the level's number (§A.4.1).
    pub fn level_idc(&self) -> u8 {
        self.facts.level_idc
    }

    /// The profile's name as Annex A prints it; "Unknown" for one that it doesn't list.
    pub fn profile_name(&self) -> &'static str {
        match self.profile_idc() {
            1 => "Main",
            2 => "Main 10",
            3 => "Main Still Picture",
            4 => "Format Range Extensions",
            5 => "High Throughput",
            6 => "Multiview Main",
            7 => "Scalable Main",
            8 => "3D Main",
            9 => "Screen Content Coding",
            10 => "Scalable Format Range Extensions",
            11 => "High Throughput Screen Content Coding",
            _ => "Unknown",
        }
    }

    /// The level as it is spoken: `"3.1"`, `"4"` (§A.4.1).
    pub fn level_name(&self) -> String {
        match (self.level_idc() / 30, self.level_idc() % 30 / 3) {
            (whole, 0) => whole.to_string(),
            (whole, tenth) => format!("{whole}.{tenth}"),
        }
    }

    /// Frames per second as a reduced fraction (numerator, denominator), from the timing in the SPS's VUI, else in
    /// the VPS (§E.3.1, §7.4.3.1).
    ///
    /// `None` if it isn't said, or is above 1 000 or below 1/60, which only broken encoders say.
    pub fn fps(&self) -> Option<(u32, u32)> {
        self.facts.fps
    }

    /// `sps_max_num_reorder_pics` of the highest sub-layer: how many pictures may precede a picture in decoding
    /// order and follow it in output order (§7.4.3.2.1). Always said in H.265.
    pub fn max_reorder_frames(&self) -> Option<u8> {
        Some(self.facts.max_reorder_frames)
    }

    /// How many temporal sub-layers the stream may have, 1 to 7.
    pub fn sub_layers(&self) -> u8 {
        self.facts.sub_layers
    }

    /// Profile, compatibility, tier, level and constraints as codec strings spell them, `"1.6.L120.90"`
    /// (ISO/IEC 14496-15 §E.3).
    pub fn profile_tier_level(&self) -> String {
        let [first, compatibility @ .., c0, c1, c2, c3, c4, c5] = self.facts.general;
        let space = ["", "A", "B", "C"].get(usize::from(first >> 6)).copied().unwrap_or_default();
        let tier = if self.is_high_tier() { 'H' } else { 'L' };
        // The 32 flags in reverse order; of the constraint bytes, zeros at the end are left out.
        let compatibility = u32::from_be_bytes(compatibility).reverse_bits();
        let mut text = format!("{space}{}.{compatibility:X}.{tier}{}", self.profile_idc(), self.level_idc());
        let constraints = u64::from_be_bytes([c0, c1, c2, c3, c4, c5, 0, 0]);
        for shift in (0..6).map(|byte| 56 - 8 * byte).take_while(|shift| constraints << (56 - shift) != 0) {
            text.push_str(&format!(".{:X}", (constraints >> shift) as u8));
        }
        text
    }

    /// `general_profile_space`, flags and constraints as ISO/IEC 14496-15 §8.3.3.1 orders them: the 11 bytes before
    /// `general_level_idc`.
    pub fn general_profile(&self) -> &[u8; 11] {
        &self.facts.general
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

    /// What ffmpeg 5.1.9 (libx265) writes for `-f lavfi -i testsrc2=s=SIZE:r=RATE -pix_fmt yuv420p`, and these.
    #[derive(Clone, Debug)]
    struct Row {
        options: &'static str,
        vps: &'static str,
        sps: &'static str,
        pps: &'static str,
        size: (u32, u32),
        profile: &'static str,
        level: &'static str,
        fps: (u32, u32),
        reorder: u8,
        sub_layers: u8,
        /// The content of the `hvcC` box that ffmpeg writes, up to the count of arrays (less its array of SEI).
        hvcc_head: &'static str,
    }

    const ROWS: [Row; 4] = [
        Row {
            options: "s=1920x1080:r=25",
            vps: "40010c01ffff016000000300900000030000030078959809",
            sps: "420101016000000300900000030000030078a003c08010e596566924caf0168080000003008000000c84",
            pps: "4401c172b46240",
            size: (1_920, 1_080),
            profile: "Main",
            level: "4",
            fps: (25, 1),
            reorder: 2,
            sub_layers: 1,
            hvcc_head: "01016000000090000000000078f000fcfdf8f800000f03",
        },
        Row {
            options: "s=640x360:r=15 -tune zerolatency",
            vps: "40010c01ffff01600000030090000003000003003f928090",
            sps: "42010101600000030090000003000003003fa0050201696592a4932bc05a020000030002000003001e10",
            pps: "4401c172b46240",
            size: (640, 360),
            profile: "Main",
            level: "2.1",
            fps: (15, 1),
            reorder: 0,
            sub_layers: 1,
            hvcc_head: "0101600000009000000000003ff000fcfdf8f800000f03",
        },
        Row {
            options: "s=426x234:r=30000/1001 -pix_fmt yuv422p10le",
            vps: "40010c01ffff0408000003009d0800000300003c959809",
            sps: "4201010408000003009d0800000300003cb00d880f1c93b65959a49395e02d0100000303e90000753008",
            pps: "4401c172b46240",
            size: (426, 234),
            profile: "Format Range Extensions",
            level: "2",
            fps: (30_000, 1_001),
            reorder: 2,
            sub_layers: 1,
            hvcc_head: "0104080000009d08000000003cf000fcfefafa00000f03",
        },
        Row {
            options: "s=640x360:r=30 -x265-params temporal-layers=1:b-pyramid=1:bframes=4",
            vps: "40010c02ffff01600000030090000003000003003f00009598acc048",
            sps: "42010201600000030090000003000003003f0000a005020169659598acd24995e02d010000030001000003001e08",
            pps: "4401c172b46240",
            size: (640, 360),
            profile: "Main",
            level: "2.1",
            fps: (30, 1),
            reorder: 2,
            sub_layers: 2,
            hvcc_head: "0101600000009000000000003ff000fcfdf8f800001303",
        },
    ];

    /// Writes fields as the standard's descriptors u(n) and ue(v), then a NAL unit with emulation prevention.
    #[derive(Default)]
    struct Bits(String);

    impl Bits {
        fn u(mut self, width: usize, value: u64) -> Self {
            self.0.push_str(&format!("{value:0width$b}"));
            self
        }

        fn ue(self, values: &[u64]) -> Self {
            values.iter().fold(self, |bits, value| {
                let digits = 64 - (value + 1).leading_zeros() as usize;
                bits.u(2 * digits - 1, value + 1)
            })
        }

        fn nal(mut self, header: &str) -> Vec<u8> {
            self.0.push('1');
            let mut nal = hex(header);
            for byte in self.0.as_bytes().chunks(8) {
                let byte = byte.iter().enumerate().map(|(at, bit)| (bit - b'0') << (7 - at)).sum();
                if byte <= 3 && nal.ends_with(&[0, 0]) {
                    nal.push(3);
                }
                nal.push(byte);
            }
            nal
        }
    }

    /// Profile, compatibility, constraints and level of Main 3.1, with the same for one lower sub-layer.
    fn two_layers(bits: Bits) -> Bits {
        let profile = |bits: Bits| bits.u(8, 1).u(32, 0x6000_0000).u(48, 0x9000_0000_0000);
        profile(profile(bits).u(8, 93).u(16, 0xc000)).u(8, 90)
    }

    #[test]
    fn every_optional_part_before_the_timing_is_passed_over() {
        let ordering = [4, 1, 0, 5, 3, 0];
        let head =
            two_layers(Bits::default().u(4, 0).u(3, 1).u(1, 1)).ue(&[0, 1, 1_288, 728]).u(1, 1).ue(&[1, 3, 0, 4]);
        let coding = head.ue(&[0, 0, 4]).u(1, 1).ue(&ordering).ue(&[0, 3, 0, 3, 0, 0]);
        // Scaling lists: every matrix predicted but the last, which has a DC and 64 coefficients.
        let predicted = (0..19).fold(coding.u(2, 3), |bits, _| bits.u(1, 0).ue(&[0]));
        let scaled = (0..65).fold(predicted.u(1, 1), |bits, _| bits.ue(&[0]));
        let pcm = scaled.u(2, 1).u(1, 1).u(8, 0x77).ue(&[0, 0]).u(1, 0);
        // Three sets: two pictures before and one after; predicted a picture later, where three of four are kept but
        // one is the picture itself; predicted from those two.
        let explicit = pcm.ue(&[3]).ue(&[2, 1]).ue(&[0]).u(1, 1).ue(&[1]).u(1, 1).ue(&[0]).u(1, 1);
        let sets = explicit.u(1, 1).u(1, 0).ue(&[0]).u(1, 1).u(2, 1).u(2, 0).u(1, 1);
        let sets = sets.u(1, 1).u(1, 1).ue(&[2]).u(3, 7);
        let long_term = sets.u(1, 1).ue(&[2]).u(9, 0x101).u(9, 0x102).u(2, 3);
        let vui = long_term.u(1, 1).u(9, 0x1ff).u(32, 0x0004_0003).u(2, 3).u(1, 1).u(4, 0xa).u(1, 1).u(24, 0x01_0101);
        let vui = vui.u(1, 1).ue(&[0, 0]).u(3, 0).u(1, 1).ue(&[0, 0, 0, 0]);
        let sps = vui.u(1, 1).u(32, 1_001).u(32, 24_000).u(2, 0).u(1, 0).u(1, 0).nal("4201");
        let vps =
            two_layers(Bits::default().u(4, 0).u(2, 3).u(6, 0).u(3, 1).u(1, 1).u(16, 0xffff)).u(1, 1).ue(&ordering);
        let vps = vps.u(6, 2).ue(&[1]).u(3, 5).u(1, 1).u(32, 1).u(32, 20).u(1, 0).ue(&[0]).u(1, 0).nal("4001");

        let config = Config::parse(&vps, &sps, &hex(ROWS[0].pps)).unwrap();
        assert_eq!((config.width(), config.height()), (1_288 - 2 * 4, 728 - 2 * 4));
        assert_eq!((config.fps(), config.max_reorder_frames()), (Some((24_000, 1_001)), Some(3)));
        let without_vui = Config::parse(&vps, &sps[..sps.len() - 12], &hex(ROWS[0].pps)).unwrap();
        assert_eq!(without_vui.fps(), Some((20, 1)), "of the VPS");
    }

    fn config(row: &Row) -> Config {
        Config::parse(&hex(row.vps), &hex(row.sps), &hex(row.pps)).unwrap()
    }

    #[test]
    fn parameter_sets_of_x265_say_what_was_asked_for() {
        for row in ROWS {
            let config = config(&row);
            assert_eq!((config.width(), config.height()), row.size, "{}", row.options);
            assert_eq!(config.profile_name(), row.profile, "{}", row.options);
            assert_eq!(config.level_name(), row.level, "{}", row.options);
            assert_eq!(config.fps(), Some(row.fps), "{}", row.options);
            assert_eq!(config.max_reorder_frames(), Some(row.reorder), "{}", row.options);
            assert_eq!((config.is_high_tier(), config.sub_layers()), (false, row.sub_layers), "{}", row.options);
            let array = |kind, nal: &str| format!("{kind}0001{:04x}{nal}", nal.len() / 2);
            let arrays = [array("a0", row.vps), array("a1", row.sps), array("a2", row.pps)].concat();
            let hvcc = hex(&format!("{}{arrays}", row.hvcc_head));
            assert_eq!(config.hvcc(), hvcc, "{}", row.options);
            assert_eq!(Config::from_hvcc(&hvcc).unwrap(), config, "{}", row.options);
        }
    }

    #[test]
    fn damage_behind_the_picture_size_costs_the_frame_rate_only() {
        let row = &ROWS[0];
        for (what, sps, fps) in [
            ("a byte behind the SPS", format!("{}80", row.sps), Some((25, 1))),
            ("a start code before it", format!("00000001{}", row.sps), Some((25, 1))),
            ("cut short in the VUI", row.sps[..row.sps.len() - 20].to_owned(), None),
        ] {
            let config = Config::parse(&hex(row.vps), &hex(&sps), &hex(row.pps)).unwrap();
            assert_eq!((config.width(), config.height(), config.fps()), (1_920, 1_080, fps), "{what}");
        }
        for (vps, sps, pps) in
            [(row.sps, row.sps, row.pps), (row.vps, &row.sps[..30], row.pps), (row.vps, row.sps, "4401")]
        {
            Config::parse(&hex(vps), &hex(sps), &hex(pps)).unwrap_err();
        }
        let hvcc = config(row).hvcc();
        for len in 0..hvcc.len() {
            Config::from_hvcc(&hvcc[..len]).unwrap_err();
        }
    }

    #[test]
    fn first_bytes_tell_the_kind() {
        for (nal, irap, idr, disposable, first) in [
            (&b"\x26\x01\xaf"[..], true, true, false, true),
            (b"\x28\x01\x2f", true, true, false, false),
            (b"\x2a\x01\xaf", true, false, false, true),
            (b"\x02\x01\xd0", false, false, false, true),
            (b"\x00\x01\xd0", false, false, true, true),
            (b"\x10\x01\xd0", false, false, true, true),
            (b"\x40\x01\x8c", false, false, false, false),
        ] {
            let kind = (is_irap(nal[0]), is_idr(nal[0]), is_sub_layer_non_reference(nal[0]), is_first_slice(nal));
            assert_eq!(kind, (irap, idr, disposable, first), "{nal:02x?}");
        }
        assert_eq!((temporal_id(1), temporal_id(0), temporal_id(0xfb)), (0, 0, 2));
    }

    fn damaged(vector: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        (damage, any::<prop::sample::Index>()).prop_map(|(damage, len)| {
            let mut nal = hex(vector);
            for (at, byte) in damage {
                let at = at.index(nal.len());
                nal[at] = byte;
            }
            nal.truncate(len.index(60));
            nal
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_round_trip(
            row in prop::sample::select(&ROWS[..]),
            vps in damaged(ROWS[0].vps),
            sps in prop_oneof![damaged(ROWS[0].sps), damaged(ROWS[2].sps), prop::collection::vec(any::<u8>(), 0..80)],
            pps in prop_oneof![Just(hex(ROWS[0].pps)), damaged(ROWS[0].pps)],
        ) {
            for (vps, pps) in [(&vps, &pps), (&hex(row.vps), &hex(row.pps))] {
                if let Ok(config) = Config::parse(vps, &sps, pps) {
                    prop_assert_eq!(Config::from_hvcc(&config.hvcc()).unwrap(), config);
                }
            }
        }

        #[test]
        fn any_record_is_read(hvcc in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Config::from_hvcc(&hvcc);
            let _ = Config::from_hvcc(&[&hex(ROWS[0].hvcc_head), &*hvcc].concat());
        }
    }
}
