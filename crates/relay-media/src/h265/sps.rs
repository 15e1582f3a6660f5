//! What a sequence parameter set says (H.265 §7.3.2.2 and Annex E), as far as the relay asks.

use h264_reader::rbsp::{BitRead, BitReader, BitReaderError};

use crate::{BitstreamError, nal, track::frame_rate};

/// The answers of [`Config`](super::Config).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    pub(super) id: u32,
    /// From `general_profile_space` to the byte before `general_level_idc`.
    pub(super) general: [u8; 11],
    pub(super) level_idc: u8,
    pub(super) sub_layers: u8,
    pub(super) temporal_id_nesting: bool,
    pub(super) chroma_format_idc: u8,
    pub(super) luma_bits_minus8: u8,
    pub(super) chroma_bits_minus8: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) fps: Option<(u32, u32)>,
    pub(super) max_reorder_frames: u8,
}

const WHAT: &str = "H.265 SPS";

/// Level 6.2 allows 16 888 columns (§A.4.1: sqrt(8 · MaxLumaPs)); encoders stop at 16 384.
const MAX_SIDE: u32 = 16_384;

type Bits<'a> = BitReader<&'a [u8]>;

/// Reads a whole SPS NAL unit.
pub(super) fn read(nal: &[u8]) -> Result<Facts, BitstreamError> {
    let rbsp = nal::rbsp(nal.get(2..).unwrap_or_default());
    let mut bits = BitReader::new(rbsp.as_slice());
    let wrong = |detail: String| BitstreamError::new(WHAT, detail);
    let head = Head::read(&mut bits).map_err(|error| wrong(format!("{error:?} in {} bytes", rbsp.len())))?;
    let fps = head.timing(&mut bits).ok().flatten();
    if head.chroma_format_idc > 3 || head.luma_bits_minus8 > 8 || head.chroma_bits_minus8 > 8 {
        return Err(wrong(format!(
            "chroma_format_idc {}, bit depth {}",
            head.chroma_format_idc, head.luma_bits_minus8
        )));
    }
    let (width, height) = head.size();
    if ![width, height].iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        return Err(wrong(format!("a picture of {width}x{height}")));
    }
    Ok(Facts {
        id: head.id,
        general: head.general,
        level_idc: head.level_idc,
        sub_layers: head.max_sub_layers_minus1 + 1,
        temporal_id_nesting: head.temporal_id_nesting,
        chroma_format_idc: head.chroma_format_idc as u8,
        luma_bits_minus8: head.luma_bits_minus8 as u8,
        chroma_bits_minus8: head.chroma_bits_minus8 as u8,
        width,
        height,
        fps,
        max_reorder_frames: u8::try_from(head.max_num_reorder_pics.min(16)).unwrap_or(16),
    })
}

/// Refuses a PPS that is cut short or belongs to another SPS (§7.3.2.3.1).
pub(super) fn check_pps(nal: &[u8], sps_id: u32) -> Result<(), BitstreamError> {
    const WHAT: &str = "H.265 PPS";
    let rbsp = nal::rbsp(nal.get(2..).unwrap_or_default());
    let mut bits = BitReader::new(rbsp.as_slice());
    let mut number = |name| bits.read_ue(name).map_err(|error| BitstreamError::new(WHAT, format!("{error:?}")));
    let _pps_id = number("pps_pic_parameter_set_id")?;
    let refers_to = number("pps_seq_parameter_set_id")?;
    if refers_to == sps_id {
        Ok(())
    } else {
        Err(BitstreamError::new(WHAT, format!("refers to SPS {refers_to}, the SPS is {sps_id}")))
    }
}

/// The frame rate in a VPS, where many encoders say it instead of in the SPS (§7.3.2.1).
pub(super) fn vps_fps(nal: &[u8]) -> Option<(u32, u32)> {
    let rbsp = nal::rbsp(nal.get(2..).unwrap_or_default());
    vps_timing(&mut BitReader::new(rbsp.as_slice())).ok().flatten()
}

fn vps_timing(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, BitReaderError> {
    bits.skip(4 + 2 + 6, "vps_video_parameter_set_id to vps_max_layers_minus1")?;
    let max_sub_layers_minus1: u8 = bits.read(3, "vps_max_sub_layers_minus1")?;
    bits.skip(1 + 16, "vps_temporal_id_nesting_flag, vps_reserved_0xffff_16bits")?;
    profile_tier_level(bits, max_sub_layers_minus1)?;
    sub_layer_ordering(bits, max_sub_layers_minus1)?;
    let max_layer_id: u32 = bits.read(6, "vps_max_layer_id")?;
    let layer_sets_minus1 = bits.read_ue("vps_num_layer_sets_minus1")?;
    for _ in 0..layer_sets_minus1.min(1_023) {
        bits.skip(max_layer_id + 1, "layer_id_included_flag")?;
    }
    timing_info(bits)
}

/// The fields up to the bit depths and the reordering, which every SPS has.
struct Head {
    id: u32,
    max_sub_layers_minus1: u8,
    temporal_id_nesting: bool,
    general: [u8; 11],
    level_idc: u8,
    chroma_format_idc: u32,
    coded: [u32; 2],
    /// Left, right, top, bottom, in chroma units.
    window: [u32; 4],
    luma_bits_minus8: u32,
    chroma_bits_minus8: u32,
    log2_max_poc_lsb_minus4: u32,
    max_num_reorder_pics: u32,
}

impl Head {
    fn read(bits: &mut Bits<'_>) -> Result<Self, BitReaderError> {
        bits.skip(4, "sps_video_parameter_set_id")?;
        let max_sub_layers_minus1: u8 = bits.read(3, "sps_max_sub_layers_minus1")?;
        // §7.4.3.2.1: 0 to 6; a 7 could not be told apart in hvcC's three bits.
        let max_sub_layers_minus1 = max_sub_layers_minus1.min(6);
        let temporal_id_nesting = bits.read_bool("sps_temporal_id_nesting_flag")?;
        let (general, level_idc) = profile_tier_level(bits, max_sub_layers_minus1)?;
        let id = bits.read_ue("sps_seq_parameter_set_id")?;
        let chroma_format_idc = bits.read_ue("chroma_format_idc")?;
        if chroma_format_idc == 3 {
            bits.skip(1, "separate_colour_plane_flag")?;
        }
        let coded = [bits.read_ue("pic_width_in_luma_samples")?, bits.read_ue("pic_height_in_luma_samples")?];
        let mut window = [0; 4];
        if bits.read_bool("conformance_window_flag")? {
            for edge in &mut window {
                *edge = bits.read_ue("conf_win_offset")?;
            }
        }
        Ok(Self {
            id,
            max_sub_layers_minus1,
            temporal_id_nesting,
            general,
            level_idc,
            chroma_format_idc,
            coded,
            window,
            luma_bits_minus8: bits.read_ue("bit_depth_luma_minus8")?,
            chroma_bits_minus8: bits.read_ue("bit_depth_chroma_minus8")?,
            log2_max_poc_lsb_minus4: bits.read_ue("log2_max_pic_order_cnt_lsb_minus4")?,
            max_num_reorder_pics: sub_layer_ordering(bits, max_sub_layers_minus1)?,
        })
    }

    /// §7.4.3.2.1, conformance window; 0 where the window leaves nothing.
    fn size(&self) -> (u32, u32) {
        let sub_width = if matches!(self.chroma_format_idc, 1 | 2) { 2 } else { 1 };
        let sub_height = if self.chroma_format_idc == 1 { 2 } else { 1 };
        let ([width, height], [left, right, top, bottom]) = (self.coded, self.window);
        let crop = |edge: u32, other: u32, unit: u32| edge.saturating_add(other).saturating_mul(unit);
        (width.saturating_sub(crop(left, right, sub_width)), height.saturating_sub(crop(top, bottom, sub_height)))
    }

    /// The rest of the SPS, as far as the VUI's timing.
    fn timing(&self, bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, BitReaderError> {
        for name in ["log2_min_luma_coding_block_size_minus3", "log2_diff_max_min_luma_coding_block_size"] {
            bits.read_ue(name)?;
        }
        for name in ["log2_min_luma_transform_block_size_minus2", "log2_diff_max_min_luma_transform_block_size"] {
            bits.read_ue(name)?;
        }
        for name in ["max_transform_hierarchy_depth_inter", "max_transform_hierarchy_depth_intra"] {
            bits.read_ue(name)?;
        }
        if bits.read_bool("scaling_list_enabled_flag")? && bits.read_bool("sps_scaling_list_data_present_flag")? {
            scaling_list_data(bits)?;
        }
        bits.skip(2, "amp_enabled_flag, sample_adaptive_offset_enabled_flag")?;
        if bits.read_bool("pcm_enabled_flag")? {
            bits.skip(8, "pcm_sample_bit_depth_luma_minus1, pcm_sample_bit_depth_chroma_minus1")?;
            bits.read_ue("log2_min_pcm_luma_coding_block_size_minus3")?;
            bits.read_ue("log2_diff_max_min_pcm_luma_coding_block_size")?;
            bits.skip(1, "pcm_loop_filter_disabled_flag")?;
        }
        short_term_ref_pic_sets(bits)?;
        if bits.read_bool("long_term_ref_pics_present_flag")? {
            for _ in 0..bits.read_ue("num_long_term_ref_pics_sps")?.min(32) {
                bits.skip(self.log2_max_poc_lsb_minus4.min(12) + 4 + 1, "lt_ref_pic_poc_lsb_sps, used_by_curr")?;
            }
        }
        bits.skip(2, "sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag")?;
        if !bits.read_bool("vui_parameters_present_flag")? {
            return Ok(None);
        }
        vui_timing(bits)
    }
}

/// `profile_tier_level(1, max_sub_layers_minus1)` (§7.3.3): the general profile's bytes and level.
fn profile_tier_level(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<([u8; 11], u8), BitReaderError> {
    let mut general = [0; 11];
    for byte in &mut general {
        *byte = bits.read(8, "general_profile")?;
    }
    let level_idc = bits.read(8, "general_level_idc")?;
    if max_sub_layers_minus1 > 0 {
        let present: u16 = bits.read(16, "sub_layer_profile_present_flag, sub_layer_level_present_flag")?;
        for layer in 0..u32::from(max_sub_layers_minus1) {
            if present << (2 * layer) & 0x8000 != 0 {
                bits.skip(88, "sub_layer_profile")?;
            }
            if present << (2 * layer + 1) & 0x8000 != 0 {
                bits.skip(8, "sub_layer_level_idc")?;
            }
        }
    }
    Ok((general, level_idc))
}

/// The buffering of each sub-layer, or of the highest one only; returns the last `max_num_reorder_pics`.
fn sub_layer_ordering(bits: &mut Bits<'_>, max_sub_layers_minus1: u8) -> Result<u32, BitReaderError> {
    let layers = if bits.read_bool("sub_layer_ordering_info_present_flag")? { max_sub_layers_minus1 + 1 } else { 1 };
    let mut reorder = 0;
    for _ in 0..layers {
        bits.read_ue("max_dec_pic_buffering_minus1")?;
        reorder = bits.read_ue("max_num_reorder_pics")?;
        bits.read_ue("max_latency_increase_plus1")?;
    }
    Ok(reorder)
}

/// §7.3.4.
fn scaling_list_data(bits: &mut Bits<'_>) -> Result<(), BitReaderError> {
    for size_id in 0..4_u32 {
        // §7.3.4: matrixId steps by 3 for the largest size.
        for _ in 0..if size_id == 3 { 2 } else { 6 } {
            if !bits.read_bool("scaling_list_pred_mode_flag")? {
                bits.read_ue("scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            if size_id > 1 {
                bits.read_se("scaling_list_dc_coef_minus8")?;
            }
            for _ in 0..(1_u32 << (4 + 2 * size_id)).min(64) {
                bits.read_se("scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// §7.3.7, for the sets in the SPS: what a set says depends on which pictures the one before refers to.
fn short_term_ref_pic_sets(bits: &mut Bits<'_>) -> Result<(), BitReaderError> {
    /// §7.4.3.2.1.
    const MAX_SETS: u32 = 64;
    // Distances in output order, the nearest first: before the picture, then after it.
    let mut distances = Vec::new();
    for set in 0..bits.read_ue("num_short_term_ref_pic_sets")?.min(MAX_SETS) {
        distances = if set > 0 && bits.read_bool("inter_ref_pic_set_prediction_flag")? {
            predicted_distances(bits, &distances)?
        } else {
            explicit_distances(bits)?
        };
    }
    Ok(())
}

fn explicit_distances(bits: &mut Bits<'_>) -> Result<Vec<i64>, BitReaderError> {
    /// §7.4.8: no more pictures than the buffer holds.
    const MAX_PICTURES: u32 = 16;
    let before = bits.read_ue("num_negative_pics")?.min(MAX_PICTURES);
    let after = bits.read_ue("num_positive_pics")?.min(MAX_PICTURES);
    let mut distances = Vec::new();
    for (count, sign) in [(before, -1), (after, 1)] {
        let mut distance = 0;
        for _ in 0..count {
            distance += sign * (i64::from(bits.read_ue("delta_poc_minus1")?) + 1);
            bits.skip(1, "used_by_curr_pic_flag")?;
            distances.push(distance);
        }
    }
    Ok(distances)
}

/// Equations 7-61 and 7-62: the pictures kept, and the one predicted from, seen from another picture; the picture
/// itself drops out.
fn predicted_distances(bits: &mut Bits<'_>, distances: &[i64]) -> Result<Vec<i64>, BitReaderError> {
    let sign = if bits.read_bool("delta_rps_sign")? { -1 } else { 1 };
    let delta = sign * (i64::from(bits.read_ue("abs_delta_rps_minus1")?) + 1);
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for distance in distances.iter().chain(&[0]) {
        if bits.read_bool("used_by_curr_pic_flag")? || bits.read_bool("use_delta_flag")? {
            match distance + delta {
                distance @ ..0 => before.push(distance),
                0 => {}
                distance => after.push(distance),
            }
        }
    }
    before.sort_unstable_by(|a, b| b.cmp(a));
    after.sort_unstable();
    before.append(&mut after);
    Ok(before)
}

/// §E.2.1, up to the timing.
fn vui_timing(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, BitReaderError> {
    /// `aspect_ratio_idc` for an explicit ratio (Table E.1).
    const EXTENDED_SAR: u8 = 255;
    if bits.read_bool("aspect_ratio_info_present_flag")? && bits.read::<u8>(8, "aspect_ratio_idc")? == EXTENDED_SAR {
        bits.skip(32, "sar_width, sar_height")?;
    }
    if bits.read_bool("overscan_info_present_flag")? {
        bits.skip(1, "overscan_appropriate_flag")?;
    }
    if bits.read_bool("video_signal_type_present_flag")? {
        bits.skip(4, "video_format, video_full_range_flag")?;
        if bits.read_bool("colour_description_present_flag")? {
            bits.skip(24, "colour_primaries, transfer_characteristics, matrix_coeffs")?;
        }
    }
    if bits.read_bool("chroma_loc_info_present_flag")? {
        bits.read_ue("chroma_sample_loc_type_top_field")?;
        bits.read_ue("chroma_sample_loc_type_bottom_field")?;
    }
    bits.skip(3, "neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag")?;
    if bits.read_bool("default_display_window_flag")? {
        for _ in 0..4 {
            bits.read_ue("def_disp_win_offset")?;
        }
    }
    timing_info(bits)
}

/// A tick is a picture's time (§E.3.1, §7.4.3.1).
fn timing_info(bits: &mut Bits<'_>) -> Result<Option<(u32, u32)>, BitReaderError> {
    if !bits.read_bool("timing_info_present_flag")? {
        return Ok(None);
    }
    let units: u32 = bits.read(32, "num_units_in_tick")?;
    let scale: u32 = bits.read(32, "time_scale")?;
    Ok(frame_rate(scale.into(), units.into()))
}
