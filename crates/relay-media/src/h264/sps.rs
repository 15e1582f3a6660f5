//! What a sequence parameter set says (H.264 §7.3.2.1.1 and Annex E), as far as the relay asks.

use h264_reader::{
    nal::sps::{ChromaFormat, FrameMbsFlags, PicOrderCntType, SeqParameterSet},
    rbsp::{BitRead, BitReader, BitReaderError, Numeric, Primitive},
};

use crate::{BitstreamError, nal};

/// The answers of [`Config`](super::Config).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    pub(super) id: u8,
    pub(super) profile_idc: u8,
    pub(super) constraint_flags: u8,
    pub(super) level_idc: u8,
    /// `None` where the profile fixes 4:2:0 and 8 bits.
    pub(super) chroma: Option<Chroma>,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: Option<(u32, u32)>,
    pub(super) max_reorder_frames: Option<u8>,
    pub(super) may_be_interlaced: bool,
}

/// What the `avcC` extension of the High profiles repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Chroma {
    pub(super) format_idc: u8,
    pub(super) luma_bits_minus8: u8,
    pub(super) chroma_bits_minus8: u8,
}

const WHAT: &str = "H.264 SPS";

/// Level 6.2 allows 16 880 columns (§A.3.1: sqrt(8 · MaxFS) macroblocks); encoders stop at 16 384.
const MAX_SIDE: u32 = 16_384;

/// The decoded picture buffer holds no more frames (§A.3.1).
const MAX_DPB_FRAMES: u32 = 16;

/// Reads a whole SPS NAL unit.
pub(super) fn read(nal: &[u8]) -> Result<Facts, BitstreamError> {
    let rbsp = nal::rbsp(nal.get(1..).unwrap_or_default());
    // Size and profile come before the VUI: a camera whose VUI is damaged still shows its picture.
    let sps = parse(&rbsp, Vui::Read).or_else(|_| parse(&rbsp, Vui::Skip))?;
    let (width, height) =
        sps.pixel_dimensions().map_err(|error| BitstreamError::new(WHAT, format!("picture size: {error:?}")))?;
    if ![width, height].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        return Err(BitstreamError::new(WHAT, format!("a picture of {width}x{height}")));
    }
    Ok(Facts {
        id: sps.seq_parameter_set_id.id(),
        profile_idc: sps.profile_idc.into(),
        constraint_flags: sps.constraint_flags.into(),
        level_idc: sps.level_idc,
        chroma: chroma(&sps)?,
        width,
        height,
        fps: fps(&sps),
        max_reorder_frames: max_reorder_frames(&sps),
        may_be_interlaced: matches!(sps.frame_mbs_flags, FrameMbsFlags::Fields { .. }),
    })
}

/// Refuses a PPS that is cut short or belongs to another SPS (§7.3.2.2).
pub(super) fn check_pps(nal: &[u8], sps_id: u8) -> Result<(), BitstreamError> {
    const WHAT: &str = "H.264 PPS";
    let rbsp = nal::rbsp(nal.get(1..).unwrap_or_default());
    let mut bits = BitReader::new(rbsp.as_slice());
    let mut number = |name| bits.read_ue(name).map_err(|error| BitstreamError::new(WHAT, format!("{error:?}")));
    let _pps_id = number("pic_parameter_set_id")?;
    let refers_to = number("seq_parameter_set_id")?;
    if refers_to == u32::from(sps_id) {
        Ok(())
    } else {
        Err(BitstreamError::new(WHAT, format!("refers to SPS {refers_to}, the SPS is {sps_id}")))
    }
}

fn parse(rbsp: &[u8], vui: Vui) -> Result<SeqParameterSet, BitstreamError> {
    SeqParameterSet::from_bits(Tolerant { bits: BitReader::new(rbsp), vui })
        .map_err(|error| BitstreamError::new(WHAT, format!("{error:?} in {} bytes", rbsp.len())))
}

fn chroma(sps: &SeqParameterSet) -> Result<Option<Chroma>, BitstreamError> {
    if !sps.profile_idc.has_chroma_info() {
        return Ok(None);
    }
    let info = &sps.chroma_info;
    let format_idc = match info.chroma_format {
        ChromaFormat::Monochrome => 0,
        ChromaFormat::YUV420 => 1,
        ChromaFormat::YUV422 => 2,
        ChromaFormat::YUV444 => 3,
        ChromaFormat::Invalid(idc) => return Err(BitstreamError::new(WHAT, format!("chroma_format_idc {idc}"))),
    };
    Ok(Some(Chroma {
        format_idc,
        luma_bits_minus8: info.bit_depth_luma_minus8,
        chroma_bits_minus8: info.bit_depth_chroma_minus8,
    }))
}

/// A tick of the VUI is a field's time: a frame takes two, also where all frames are progressive (§E.2.1).
fn fps(sps: &SeqParameterSet) -> Option<(u32, u32)> {
    let timing = sps.vui_parameters.as_ref()?.timing_info.as_ref()?;
    crate::track::frame_rate(timing.time_scale.into(), u64::from(timing.num_units_in_tick) * 2)
}

fn max_reorder_frames(sps: &SeqParameterSet) -> Option<u8> {
    let profile: u8 = sps.profile_idc.into();
    let intra_only = matches!(profile, 44 | 86 | 100 | 110 | 122 | 244) && sps.constraint_flags.flag3();
    // Baseline has no B slices (§A.2.1). Type 2 makes output order the decoding order (§8.2.1.3). The VUI's absence
    // means no reordering in the intra profiles only (§E.2.1, max_num_reorder_frames).
    if profile == 66 || sps.pic_order_cnt == PicOrderCntType::TypeTwo || intra_only {
        return Some(0);
    }
    let restrictions = sps.vui_parameters.as_ref()?.bitstream_restrictions.as_ref()?;
    u8::try_from(restrictions.max_num_reorder_frames.min(MAX_DPB_FRAMES)).ok()
}

/// What to do about the VUI at the end of an SPS.
#[derive(Clone, Copy)]
enum Vui {
    Read,
    Skip,
}

/// A bit reader that accepts what follows an SPS (Reolink appends a byte) and can leave out the VUI.
struct Tolerant<'a> {
    bits: BitReader<&'a [u8]>,
    vui: Vui,
}

impl BitRead for Tolerant<'_> {
    fn read_ue(&mut self, name: &'static str) -> Result<u32, BitReaderError> {
        self.bits.read_ue(name)
    }

    fn read_se(&mut self, name: &'static str) -> Result<i32, BitReaderError> {
        self.bits.read_se(name)
    }

    fn read_bool(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        match (self.vui, name) {
            (Vui::Skip, "vui_parameters_present_flag") => Ok(false),
            _ => self.bits.read_bool(name),
        }
    }

    fn read<U: Numeric>(&mut self, bit_count: u32, name: &'static str) -> Result<U, BitReaderError> {
        self.bits.read(bit_count, name)
    }

    fn read_to<V: Primitive>(&mut self, name: &'static str) -> Result<V, BitReaderError> {
        self.bits.read_to(name)
    }

    fn skip(&mut self, bit_count: u32, name: &'static str) -> Result<(), BitReaderError> {
        self.bits.skip(bit_count, name)
    }

    fn has_more_rbsp_data(&mut self, name: &'static str) -> Result<bool, BitReaderError> {
        self.bits.has_more_rbsp_data(name)
    }

    fn finish_rbsp(self) -> Result<(), BitReaderError> {
        Ok(())
    }

    fn finish_sei_payload(self) -> Result<(), BitReaderError> {
        self.bits.finish_sei_payload()
    }
}
