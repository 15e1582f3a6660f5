//! What the first bytes of a NAL unit say about its picture, for both standards.

use h264_reader::rbsp::{BitRead, BitReader};

use super::{Boundary, Role, Syntax, h264, h265};

/// The facts of a slice header that matter outside a decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slice {
    pub is_first: bool,
    pub role: Role,
    /// No picture (H.264), or none of the same sub-layer (H.265), refers to it.
    pub non_reference: bool,
    /// H.265 only.
    pub temporal_id: Option<u8>,
    /// An I or SI slice; H.264 only.
    pub intra: bool,
    /// The picture parameter set it refers to, where the header could be read.
    pub pps_id: Option<u32>,
}

/// Enough for `first_mb_in_slice`, `slice_type` and `pic_parameter_set_id` at their longest in use (31 + 9 + 17 bits).
const HEAD_BYTES: usize = 10;

impl Slice {
    /// Reads the slice header at the start of `nal`; `None` if it is no slice.
    pub(super) fn read(syntax: Syntax, nal: &[u8]) -> Option<Self> {
        if !is_slice(syntax, nal) {
            return None;
        }
        match syntax {
            Syntax::H264 => Self::h264(nal),
            Syntax::H265 => Self::h265(nal),
        }
    }

    /// §7.3.3. Emulation prevention cannot occur in so few bytes of a header that starts with a small number.
    fn h264(nal: &[u8]) -> Option<Self> {
        let (&header, body) = nal.split_first()?;
        let mut bits = BitReader::new(body.get(..HEAD_BYTES).unwrap_or(body));
        bits.read_ue("first_mb_in_slice").ok();
        let slice_type = bits.read_ue("slice_type").ok();
        let pps_id = bits.read_ue("pic_parameter_set_id").ok();
        Some(Self {
            is_first: h264::is_first_slice(nal),
            role: if h264::is_idr(header) { Role::Closed } else { Role::Dependent },
            non_reference: h264::nal_ref_idc(header) == 0,
            temporal_id: None,
            // 2 and 7 are I, 4 and 9 are SI (Table 7-6).
            intra: matches!(slice_type, Some(2 | 4 | 7 | 9)),
            pps_id,
        })
    }

    /// §7.3.6.1.
    fn h265(nal: &[u8]) -> Option<Self> {
        let (&[header, second], body) = nal.split_first_chunk::<2>()?;
        let mut bits = BitReader::new(body.get(..HEAD_BYTES).unwrap_or(body));
        let first = bits.read_bool("first_slice_segment_in_pic_flag").ok();
        if h265::is_irap(header) {
            bits.skip(1, "no_output_of_prior_pics_flag").ok();
        }
        let role = match h265::nal_type(header) {
            // RASL_N, RASL_R (Table 7-1).
            8 | 9 => Role::SkippedLeading,
            _ if h265::is_idr(header) => Role::Closed,
            _ if h265::is_irap(header) => Role::Open,
            _ => Role::Dependent,
        };
        Some(Self {
            is_first: first == Some(true),
            role,
            non_reference: h265::is_sub_layer_non_reference(header),
            temporal_id: Some(h265::temporal_id(second)),
            intra: false,
            pps_id: bits.read_ue("slice_pic_parameter_set_id").ok(),
        })
    }
}

/// A slice of the base layer.
pub(super) fn is_slice(syntax: Syntax, nal: &[u8]) -> bool {
    match (syntax, nal) {
        (Syntax::H264, [header, ..]) => h264::is_slice(*header),
        (Syntax::H265, [header, second, ..]) => h265::is_slice(*header) && layer_id(*header, *second) == 0,
        _ => false,
    }
}

/// What stands before or in a key frame: parameter sets, or its slice.
pub(super) fn announces_key(syntax: Syntax, nal: &[u8]) -> bool {
    match (syntax, nal.first()) {
        (Syntax::H264, Some(&header)) => {
            h264::is_idr(header) || matches!(h264::nal_type(header), h264::NAL_SPS | h264::NAL_PPS)
        }
        (Syntax::H265, Some(&header)) => {
            h265::is_irap(header) || matches!(h265::nal_type(header), h265::NAL_VPS | h265::NAL_SPS | h265::NAL_PPS)
        }
        (_, None) => false,
    }
}

/// A NAL unit other than a slice and a parameter set that belongs into a packet. Delimiters, ends and filler do not,
/// nor do types that the standard leaves open (RTP uses them for its own) or other layers.
pub(super) fn is_kept(syntax: Syntax, nal: &[u8]) -> bool {
    match (syntax, nal) {
        // SEI, SPS extension, prefix, subset SPS, auxiliary and extension slices (Table 7-1).
        (Syntax::H264, [header, _, ..]) => matches!(h264::nal_type(*header), 6 | 13..=15 | 19..=21),
        // SEI before and after the slices (Table 7-1).
        (Syntax::H265, [header, second, _, ..]) => {
            matches!(h265::nal_type(*header), 39 | 40) && layer_id(*header, *second) == 0
        }
        _ => false,
    }
}

pub(super) fn boundary(syntax: Syntax, nal: &[u8]) -> Boundary {
    let Some(&header) = nal.first() else { return Boundary::Trails };
    let (first, trails) = match syntax {
        Syntax::H264 => (h264::is_first_slice(nal), matches!(h264::nal_type(header), 10..=12 | 19..=23)),
        Syntax::H265 => (h265::is_first_slice(nal), matches!(h265::nal_type(header), 36..=38 | 40 | 45..=47)),
    };
    match (is_slice(syntax, nal), first) {
        (true, true) => Boundary::Opens,
        (true, false) => Boundary::Continues,
        (false, _) if trails => Boundary::Trails,
        (false, _) => Boundary::Opens,
    }
}

/// `nuh_layer_id` (H.265 §7.3.1.2).
fn layer_id(header: u8, second: u8) -> u8 {
    (header & 1) << 5 | second >> 3
}
