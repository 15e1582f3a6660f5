//! The AVCDecoderConfigurationRecord (ISO/IEC 14496-15 §5.3.3.1), the content of an `avcC` box.

use bytes::{BufMut, Bytes, BytesMut};

use super::Config;
use crate::BitstreamError;

const WHAT: &str = "avcC";

/// Writes one SPS, one PPS and 4-byte lengths.
pub(super) fn write(config: &Config) -> Bytes {
    let mut record = BytesMut::with_capacity(15 + config.sps.len() + config.pps.len());
    record.put_slice(&[1, config.profile_idc(), config.constraint_flags(), config.level_idc()]);
    record.put_u8(0xfc | 3);
    record.put_u8(0xe0 | 1);
    put_nal(&mut record, &config.sps);
    record.put_u8(1);
    put_nal(&mut record, &config.pps);
    // §5.3.3.1.2: every profile whose SPS says the chroma format repeats it here; there are no SPS extensions.
    if let Some(chroma) = config.facts.chroma {
        record.put_slice(&[
            0xfc | chroma.format_idc,
            0xf8 | chroma.luma_bits_minus8,
            0xf8 | chroma.chroma_bits_minus8,
            0,
        ]);
    }
    record.freeze()
}

/// Reads the parameter sets; what else the record says is in the SPS too, and the SPS counts.
pub(super) fn read(record: &[u8]) -> Result<Config, BitstreamError> {
    let [version, _, _, _, lengths, rest @ ..] = record else {
        return Err(BitstreamError::new(WHAT, format!("{} bytes", record.len())));
    };
    if *version != 1 {
        return Err(BitstreamError::new(WHAT, format!("version {version}")));
    }
    if lengths & 3 != 3 {
        return Err(BitstreamError::new(WHAT, format!("NAL lengths of {} bytes, not 4", (lengths & 3) + 1)));
    }
    let mut rest = rest;
    let all_sps = take_nals(&mut rest, 0x1f)?;
    let all_pps = take_nals(&mut rest, 0xff)?;
    let mut result = Err(BitstreamError::new(WHAT, "no SPS or no PPS"));
    for sps in &all_sps {
        for pps in &all_pps {
            result = Config::parse(sps, pps);
            if result.is_ok() {
                return result;
            }
        }
    }
    result
}

fn put_nal(record: &mut BytesMut, nal: &[u8]) {
    // A `Config` holds at most MAX_PARAMETER_SET_BYTES of each.
    record.put_u16(nal.len() as u16);
    record.put_slice(nal);
}

/// A count (the bits of `mask`) and that many NAL units, each behind its 16-bit length.
fn take_nals<'a>(rest: &mut &'a [u8], mask: u8) -> Result<Vec<&'a [u8]>, BitstreamError> {
    let short = || BitstreamError::new(WHAT, "cut short");
    let (count, mut after) = rest.split_first().ok_or_else(short)?;
    let mut nals = Vec::new();
    for _ in 0..count & mask {
        let (length, body) = after.split_first_chunk::<2>().ok_or_else(short)?;
        let (nal, next) = body.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(short)?;
        nals.push(nal);
        after = next;
    }
    *rest = after;
    Ok(nals)
}
