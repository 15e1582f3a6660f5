//! The HEVCDecoderConfigurationRecord (ISO/IEC 14496-15 §8.3.3.1), the content of an `hvcC` box.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Config, NAL_PPS, NAL_SPS, NAL_VPS};
use crate::BitstreamError;

const WHAT: &str = "hvcC";

/// Bytes before the arrays, their count included.
const HEADER_BYTES: usize = 23;

/// Writes one VPS, one SPS, one PPS and 4-byte lengths.
pub(super) fn write(config: &Config) -> Bytes {
    let (facts, sets) = (&config.facts, [&config.vps, &config.sps, &config.pps]);
    let mut record = BytesMut::with_capacity(HEADER_BYTES + sets.iter().map(|nal| 5 + nal.len()).sum::<usize>());
    record.put_u8(1);
    record.put_slice(&facts.general);
    record.put_u8(facts.level_idc);
    // min_spatial_segmentation_idc 0 and parallelismType 0: not known.
    record.put_slice(&[0xf0, 0, 0xfc]);
    record.put_u8(0xfc | facts.chroma_format_idc);
    record.put_u8(0xf8 | facts.luma_bits_minus8);
    record.put_u8(0xf8 | facts.chroma_bits_minus8);
    // avgFrameRate 0: not said; constantFrameRate 0: it may be or not.
    record.put_u16(0);
    record.put_u8(facts.sub_layers << 3 | u8::from(facts.temporal_id_nesting) << 2 | 3);
    record.put_u8(sets.len() as u8);
    for (kind, nal) in [NAL_VPS, NAL_SPS, NAL_PPS].into_iter().zip(sets) {
        // array_completeness 1: the samples carry no parameter sets, as `hvc1` demands (§8.4.1).
        record.put_u8(0x80 | kind);
        record.put_u16(1);
        // A `Config` holds at most MAX_PARAMETER_SET_BYTES of each.
        record.put_u16(nal.len() as u16);
        record.put_slice(nal);
    }
    record.freeze()
}

/// Reads the parameter sets; what else the record says is in the SPS too, and the SPS counts.
pub(super) fn read(record: &[u8]) -> Result<Config, BitstreamError> {
    let short = || BitstreamError::new(WHAT, format!("{} bytes, cut short", record.len()));
    let (header, mut rest) = record.split_first_chunk::<HEADER_BYTES>().ok_or_else(short)?;
    let [version, .., lengths, arrays] = header;
    // ISO/IEC 14496-15 §8.3.3.1.2 is version 1; files of 2013 that predate it say 0.
    if *version > 1 {
        return Err(BitstreamError::new(WHAT, format!("version {version}")));
    }
    if lengths & 3 != 3 {
        return Err(BitstreamError::new(WHAT, format!("NAL lengths of {} bytes, not 4", (lengths & 3) + 1)));
    }
    let (mut vps, mut sps, mut pps) = (None, None, None);
    for _ in 0..*arrays {
        let ([kind, count @ ..], mut after) = rest.split_first_chunk::<3>().ok_or_else(short)?;
        for _ in 0..u16::from_be_bytes(*count) {
            let (length, body) = after.split_first_chunk::<2>().ok_or_else(short)?;
            let (nal, next) = body.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(short)?;
            match kind & 0x3f {
                NAL_VPS => vps = vps.or(Some(nal)),
                NAL_SPS => sps = sps.or(Some(nal)),
                NAL_PPS => pps = pps.or(Some(nal)),
                _ => {}
            }
            after = next;
        }
        rest = after;
    }
    Config::parse(vps.unwrap_or_default(), sps.unwrap_or_default(), pps.unwrap_or_default())
}
