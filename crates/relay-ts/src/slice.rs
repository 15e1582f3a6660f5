//! What a slice's first bytes say about its picture, for both standards.
//!
//! The same facts as relay-media's access unit builder reads: it owns what parameter sets mean, and copies every NAL
//! unit to do so; here a picture's bytes are only looked at.

use relay_media::{
    access_unit::{Role, Syntax},
    h264, h265,
};

/// The facts of a slice header that matter outside a decoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceHead {
    pub(crate) is_first: bool,
    pub(crate) role: Role,
    /// No picture (H.264), or none of the same sub-layer (H.265), refers to it.
    pub(crate) non_reference: bool,
    /// 0 in H.264.
    pub(crate) temporal_id: u8,
    /// An I or SI slice; H.264 only.
    pub(crate) intra: bool,
    /// The picture parameter set it refers to, where the header could be read.
    pub(crate) pps_id: Option<u32>,
}

/// What a NAL unit is to a picture.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Slice(SliceHead),
    ParameterSet,
    /// Something else that belongs into a packet: SEI.
    Kept,
    /// Delimiters, filler, ends, other layers.
    Dropped,
}

impl Part {
    pub(crate) fn of(syntax: Syntax, nal: &[u8]) -> Self {
        match syntax {
            Syntax::H264 => h264_part(nal),
            Syntax::H265 => h265_part(nal),
        }
    }

    /// It goes into the packet.
    pub(crate) fn is_carried(&self) -> bool {
        matches!(self, Self::Slice(_) | Self::Kept)
    }
}

/// H.264 §7.3.1, §7.3.3. Emulation prevention cannot occur in so few bytes of a header that starts with a small number.
fn h264_part(nal: &[u8]) -> Part {
    let Some((&header, body)) = nal.split_first() else { return Part::Dropped };
    match h264::nal_type(header) {
        1..=5 => {
            let mut bits = Bits::new(body);
            let _first_mb_in_slice = bits.golomb();
            let slice_type = bits.golomb();
            Part::Slice(SliceHead {
                is_first: h264::is_first_slice(nal),
                role: if h264::is_idr(header) { Role::Closed } else { Role::Dependent },
                non_reference: h264::nal_ref_idc(header) == 0,
                temporal_id: 0,
                // 2 and 7 are I, 4 and 9 are SI (Table 7-6).
                intra: matches!(slice_type, Some(2 | 4 | 7 | 9)),
                pps_id: bits.golomb(),
            })
        }
        h264::NAL_SPS | h264::NAL_PPS => Part::ParameterSet,
        // SEI, SPS extension, prefix, subset SPS, auxiliary and extension slices (Table 7-1).
        6 | 13..=15 | 19..=21 if nal.len() > 1 => Part::Kept,
        _ => Part::Dropped,
    }
}

/// H.265 §7.3.1.2, §7.3.6.1.
fn h265_part(nal: &[u8]) -> Part {
    let Some((&[header, second], body)) = nal.split_first_chunk::<2>() else { return Part::Dropped };
    // nuh_layer_id: only the base layer is carried.
    let is_base = (header & 1) << 5 | second >> 3 == 0;
    match h265::nal_type(header) {
        0..=31 if is_base => {
            let mut bits = Bits::new(body);
            let is_first = bits.bit();
            if h265::is_irap(header) {
                let _no_output_of_prior_pics = bits.bit();
            }
            let role = match h265::nal_type(header) {
                // RASL_N, RASL_R (Table 7-1).
                8 | 9 => Role::SkippedLeading,
                _ if h265::is_idr(header) => Role::Closed,
                _ if h265::is_irap(header) => Role::Open,
                _ => Role::Dependent,
            };
            Part::Slice(SliceHead {
                is_first,
                role,
                non_reference: h265::is_sub_layer_non_reference(header),
                temporal_id: h265::temporal_id(second),
                intra: false,
                pps_id: bits.golomb(),
            })
        }
        h265::NAL_VPS | h265::NAL_SPS | h265::NAL_PPS => Part::ParameterSet,
        h265::NAL_PREFIX_SEI | h265::NAL_SUFFIX_SEI if is_base && nal.len() > 2 => Part::Kept,
        _ => Part::Dropped,
    }
}

/// The first 64 bits of a header; zeros behind its end.
struct Bits(u64);

impl Bits {
    fn new(bytes: &[u8]) -> Self {
        let mut head = [0; 8];
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self(u64::from_be_bytes(head))
    }

    fn bit(&mut self) -> bool {
        let bit = self.0 >> 63 == 1;
        self.0 <<= 1;
        bit
    }

    /// `ue(v)` (H.264 and H.265 §9.2, §9.1); `None` where it isn't within the 64 bits.
    fn golomb(&mut self) -> Option<u32> {
        let zeros = self.0.leading_zeros();
        if zeros >= 32 {
            return None;
        }
        let value = u32::try_from((self.0 >> (63 - 2 * zeros)) - 1).ok();
        self.0 <<= 2 * zeros;
        self.0 <<= 1;
        value
    }
}
