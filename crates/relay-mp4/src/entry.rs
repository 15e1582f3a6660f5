//! Sample entries: what a decoder must know of a track (`stsd`, ISO/IEC 14496-12 §8.5.2), written and read.

use mp4_atom::{
    Atom as _, Audio, BufMut, Decode as _, Dops, Encode as _, Esds, FixedPoint, Opus, Visual,
    esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig},
};
use relay_media::{Codec, aac, g711, h264, h265, opus};

use crate::{ReadError, walk};

/// Writes the sample entry of `codec`.
pub(crate) fn write(codec: &Codec, buf: &mut Vec<u8>) -> mp4_atom::Result<()> {
    match codec {
        // ISO/IEC 14496-15 §5.4.2: avc1 keeps the parameter sets here and not in the samples.
        Codec::H264(config) => video(buf, *b"avc1", (config.width(), config.height()), *b"avcC", &config.avcc()),
        // ISO/IEC 14496-15 §8.4.1: hvc1, likewise.
        Codec::H265(config) => video(buf, *b"hvc1", (config.width(), config.height()), *b"hvcC", &config.hvcc()),
        Codec::Aac(config) => buf.encode_atom(*b"mp4a", |buf| {
            audio(config.channels(), config.sample_rate()).encode(buf)?;
            aac_descriptor(config).encode(buf)
        }),
        Codec::Opus(config) => opus_entry(*config).encode(buf),
        // mp4-atom has no G.711 entries and refuses unknown ones, so this is written here: a plain AudioSampleEntry
        // (ISO/IEC 14496-12 §12.2.3) whose four letters are QuickTime's, as ffmpeg, GStreamer and VLC know them.
        Codec::G711(config) => {
            buf.encode_atom(law_letters(config.law), |buf| audio(config.channels, config.sample_rate).encode(buf))
        }
    }
}

fn video(
    buf: &mut Vec<u8>,
    letters: [u8; 4],
    (width, height): (u32, u32),
    config_letters: [u8; 4],
    config: &[u8],
) -> mp4_atom::Result<()> {
    let visual = Visual { data_reference_index: 1, width: clamp(width), height: clamp(height), ..Visual::default() };
    buf.encode_atom(letters, |buf| {
        visual.encode(buf)?;
        buf.encode_atom(config_letters, |buf| {
            buf.append_slice(config);
            Ok(())
        })
    })
}

fn audio(channels: u8, sample_rate: u32) -> Audio {
    Audio {
        data_reference_index: 1,
        channel_count: channels.into(),
        sample_size: 16,
        // A rate beyond 16 bits (96 kHz) is told by the codec's own configuration alone.
        sample_rate: FixedPoint::new(u16::try_from(sample_rate).unwrap_or(0), 0),
    }
}

/// ISO/IEC 14496-14 §5.6.
fn aac_descriptor(config: &aac::Config) -> Esds {
    let dec_config = DecoderConfig {
        object_type_indication: 0x40, // Audio ISO/IEC 14496-3
        stream_type: 5,               // AudioStream
        dec_specific: Some(DecoderSpecific { raw: config.audio_specific_config().to_vec(), ..Default::default() }),
        ..Default::default()
    };
    Esds { es_desc: EsDescriptor { es_id: 0, dec_config, sl_config: SLConfig::default(), ..Default::default() } }
}

fn opus_entry(config: opus::Config) -> Opus {
    let dops = Dops {
        output_channel_count: config.channels,
        // RTP carries no pre-skip (RFC 7587), and a recording begins in mid-stream.
        pre_skip: 0,
        input_sample_rate: opus::CLOCK_HZ,
        output_gain: 0,
        channel_mapping: None,
    };
    Opus { audio: audio(config.channels, opus::CLOCK_HZ), dops, btrt: None }
}

fn law_letters(law: g711::Law) -> [u8; 4] {
    match law {
        g711::Law::A => *b"alaw",
        g711::Law::Mu => *b"ulaw",
    }
}

fn clamp(size: u32) -> u16 {
    u16::try_from(size).unwrap_or(u16::MAX)
}

/// Bytes of a VisualSampleEntry before its boxes (ISO/IEC 14496-12 §12.1.3).
const VISUAL_LEN: usize = 78;
/// Bytes of an AudioSampleEntry before its boxes (ISO/IEC 14496-12 §12.2.3).
const AUDIO_LEN: usize = 28;

/// Reads the body of an `stsd` with one of the entries that [`write()`] writes.
pub(crate) fn read(stsd: &[u8]) -> Result<Codec, ReadError> {
    let (letters, body) = walk::children(stsd.get(8..).unwrap_or_default())
        .next()
        .ok_or_else(|| ReadError::new(0, "stsd without a sample entry"))?;
    match &letters {
        b"avc1" => Ok(Codec::H264(h264::Config::from_avcc(child(body, VISUAL_LEN, *b"avcC")?)?)),
        b"hvc1" => Ok(Codec::H265(h265::Config::from_hvcc(child(body, VISUAL_LEN, *b"hvcC")?)?)),
        b"mp4a" => {
            let esds = Esds::decode_body(&mut child(body, AUDIO_LEN, *b"esds")?)?;
            let config = esds.es_desc.dec_config.dec_specific.map(|specific| specific.raw).unwrap_or_default();
            Ok(Codec::Aac(aac::Config::parse(&config)?))
        }
        b"Opus" => {
            let dops = Dops::decode_body(&mut child(body, AUDIO_LEN, *b"dOps")?)?;
            Ok(Codec::Opus(opus::Config { channels: dops.output_channel_count }))
        }
        b"alaw" => g711(g711::Law::A, body),
        b"ulaw" => g711(g711::Law::Mu, body),
        other => Err(ReadError::new(0, format!("sample entry {:?}", String::from_utf8_lossy(other)))),
    }
}

fn g711(law: g711::Law, mut body: &[u8]) -> Result<Codec, ReadError> {
    let audio = Audio::decode(&mut body)?;
    let channels = u8::try_from(audio.channel_count).unwrap_or(u8::MAX);
    Ok(Codec::G711(g711::Config { law, sample_rate: audio.sample_rate.integer().into(), channels }))
}

fn child(entry: &[u8], skip: usize, letters: [u8; 4]) -> Result<&[u8], ReadError> {
    walk::find(entry.get(skip..).unwrap_or_default(), letters)
        .ok_or_else(|| ReadError::new(0, format!("no {:?} in the sample entry", String::from_utf8_lossy(&letters))))
}
