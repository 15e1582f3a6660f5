//! Tracks (RFC 9559 §5.1.4): what a decoder must know, as the CodecID and CodecPrivate of the codec mappings
//! (RFC 9559's companion, draft-ietf-cellar-codec).

use bytes::Bytes;
use relay_media::{BitstreamError, Codec, Kind, aac, g711, h264, h265, opus};

use crate::{
    CODEC_PRIVATE_BYTES_MAX, Element, Fault, ReadError, TRACKS_MAX,
    ebml::{Whole, put, put_float, put_uint},
};

const AVC: &str = "V_MPEG4/ISO/AVC";
const HEVC: &str = "V_MPEGH/ISO/HEVC";
const AAC: &str = "A_AAC";
const OPUS: &str = "A_OPUS";
const ACM: &str = "A_MS/ACM";

/// TrackType (RFC 9559 §5.1.4.1.3).
const VIDEO: u64 = 1;
const AUDIO: u64 = 2;

/// `wFormatTag` of a WAVEFORMATEX.
const WAVE_FORMAT_ALAW: u16 = 6;
const WAVE_FORMAT_MULAW: u16 = 7;

/// A track as the header tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackEntry {
    /// The number its blocks carry.
    pub number: u64,
    /// The number other elements know it by.
    pub uid: u64,
    /// CodecID, such as `V_MPEG4/ISO/AVC`.
    pub codec_id: String,
    /// CodecPrivate, whose layout the CodecID tells; empty if it isn't there.
    pub codec_private: Bytes,
    /// What depends on its type.
    pub media: TrackMedia,
}

/// What a track tells according to its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackMedia {
    /// Pictures.
    Video {
        /// Pixels in a row.
        width: u64,
        /// Rows.
        height: u64,
    },
    /// Sound.
    Audio {
        /// Samples per second and channel, to the nearest.
        sample_rate: u32,
        /// Channels.
        channels: u64,
        /// Bits of a sample, where that means something.
        bit_depth: Option<u64>,
    },
}

impl TrackEntry {
    /// Video or audio.
    pub fn kind(&self) -> Kind {
        match self.media {
            TrackMedia::Video { .. } => Kind::Video,
            TrackMedia::Audio { .. } => Kind::Audio,
        }
    }

    /// The codec, if it is one that a [`Writer`](crate::Writer) writes.
    ///
    /// # Errors
    /// Another CodecID, or a CodecPrivate that is not what the CodecID promises.
    pub fn codec(&self) -> Result<Codec, BitstreamError> {
        let private = &self.codec_private[..];
        match self.codec_id.as_str() {
            AVC => h264::Config::from_avcc(private).map(Codec::H264),
            HEVC => h265::Config::from_hvcc(private).map(Codec::H265),
            AAC => aac::Config::parse(private).map(Codec::Aac),
            OPUS => read_opus_head(private).map(Codec::Opus),
            ACM => read_wave_format(private).map(Codec::G711),
            other => Err(BitstreamError::new("CodecID", other)),
        }
    }
}

/// Writes the TrackEntry of `codec` under this number.
pub(crate) fn write(out: &mut Vec<u8>, number: u8, codec: &Codec) {
    let (kind, id, private) = match codec {
        Codec::H264(config) => (VIDEO, AVC, config.avcc()),
        Codec::H265(config) => (VIDEO, HEVC, config.hvcc()),
        Codec::Aac(config) => (AUDIO, AAC, config.audio_specific_config().clone()),
        Codec::Opus(config) => (AUDIO, OPUS, opus_head(*config)),
        Codec::G711(config) => (AUDIO, ACM, wave_format(*config)),
    };
    let mut entry = Vec::new();
    put_uint(&mut entry, Element::TRACK_NUMBER, number.into());
    // The same in every session of a stream, and never 0.
    put(&mut entry, Element::TRACK_UID, &u64::from(number).to_be_bytes());
    put_uint(&mut entry, Element::TRACK_TYPE, kind);
    put(&mut entry, Element::CODEC_ID, id.as_bytes());
    if matches!(codec, Codec::Opus(_)) {
        // The Opus mapping asks for 80 ms; RTP carries no pre-skip (RFC 7587), and a session begins in mid-stream.
        put_uint(&mut entry, Element::CODEC_DELAY, 0);
        put_uint(&mut entry, Element::SEEK_PRE_ROLL, 80_000_000);
    }
    put(&mut entry, Element::CODEC_PRIVATE, &private);
    match codec {
        Codec::H264(config) => video(&mut entry, config.width(), config.height()),
        Codec::H265(config) => video(&mut entry, config.width(), config.height()),
        Codec::Aac(config) => {
            audio(&mut entry, config.sample_rate(), config.extension_rate(), config.channels().into(), None);
        }
        Codec::Opus(config) => audio(&mut entry, opus::CLOCK_HZ, None, config.channels.into(), None),
        Codec::G711(config) => audio(&mut entry, config.sample_rate, None, config.channels.into(), Some(8)),
    }
    put(out, Element::TRACK_ENTRY, &entry);
}

fn video(entry: &mut Vec<u8>, width: u32, height: u32) {
    let mut video = Vec::new();
    put_uint(&mut video, Element::PIXEL_WIDTH, width.into());
    put_uint(&mut video, Element::PIXEL_HEIGHT, height.into());
    put(entry, Element::VIDEO, &video);
}

fn audio(entry: &mut Vec<u8>, rate: u32, output_rate: Option<u32>, channels: u64, bits: Option<u64>) {
    let mut audio = Vec::new();
    put_float(&mut audio, Element::SAMPLING_FREQUENCY, rate.into());
    if let Some(rate) = output_rate {
        put_float(&mut audio, Element::OUTPUT_SAMPLING_FREQUENCY, rate.into());
    }
    put_uint(&mut audio, Element::CHANNELS, channels);
    if let Some(bits) = bits {
        put_uint(&mut audio, Element::BIT_DEPTH, bits);
    }
    put(entry, Element::AUDIO, &audio);
}

/// The identification header of Ogg Opus (RFC 7845 §5.1), which is the CodecPrivate.
fn opus_head(config: opus::Config) -> Bytes {
    let mut head = b"OpusHead\x01".to_vec();
    head.extend([config.channels, 0, 0]);
    head.extend(opus::CLOCK_HZ.to_le_bytes());
    head.extend([0, 0, 0]);
    head.into()
}

fn read_opus_head(head: &[u8]) -> Result<opus::Config, BitstreamError> {
    match head.strip_prefix(b"OpusHead") {
        // A major version of 0, and one or two channels (family 0).
        Some([0..=15, channels @ 1..=2, _, _, _, _, _, _, _, _, 0]) => Ok(opus::Config { channels: *channels }),
        _ => Err(BitstreamError::new("OpusHead", format!("{head:02x?}"))),
    }
}

/// A WAVEFORMATEX: little-endian, 18 bytes, without an extension.
fn wave_format(config: g711::Config) -> Bytes {
    let tag = match config.law {
        g711::Law::A => WAVE_FORMAT_ALAW,
        g711::Law::Mu => WAVE_FORMAT_MULAW,
    };
    let (rate, channels) = (config.sample_rate, u16::from(config.channels));
    let mut format = Vec::with_capacity(18);
    format.extend(tag.to_le_bytes());
    format.extend(channels.to_le_bytes());
    format.extend(rate.to_le_bytes());
    format.extend(rate.saturating_mul(channels.into()).to_le_bytes());
    format.extend(channels.to_le_bytes());
    format.extend(8_u16.to_le_bytes());
    format.extend(0_u16.to_le_bytes());
    format.into()
}

fn read_wave_format(format: &[u8]) -> Result<g711::Config, BitstreamError> {
    let wrong =
        || BitstreamError::new("WAVEFORMATEX", format!("no G.711: {:02x?}", format.get(..18).unwrap_or(format)));
    let [tag0, tag1, channels, 0, rate @ .., _, _, _, _, _, _, 8, 0, 0, 0] = format else { return Err(wrong()) };
    let law = match u16::from_le_bytes([*tag0, *tag1]) {
        WAVE_FORMAT_ALAW => g711::Law::A,
        WAVE_FORMAT_MULAW => g711::Law::Mu,
        _ => return Err(wrong()),
    };
    let rate = <[u8; 4]>::try_from(rate).map_err(|_| wrong())?;
    Ok(g711::Config { law, sample_rate: u32::from_le_bytes(rate), channels: *channels })
}

/// Reads a Tracks element.
pub(crate) fn read(tracks: &Whole<'_>) -> Result<Vec<TrackEntry>, ReadError> {
    let mut entries: Vec<TrackEntry> = Vec::new();
    for child in tracks.children() {
        let child = child?;
        if child.element != Element::TRACK_ENTRY {
            continue;
        }
        let entry = read_entry(&child)?;
        if entries.iter().any(|other| other.number == entry.number) {
            return Err(Fault::Duplicate(Element::TRACK_NUMBER).at(child.offset));
        }
        if entries.len() == TRACKS_MAX {
            return Err(tracks.wrong("more tracks than are read here"));
        }
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(Fault::Missing { element: Element::TRACK_ENTRY, parent: Element::TRACKS }.at(tracks.offset));
    }
    Ok(entries)
}

fn read_entry(entry: &Whole<'_>) -> Result<TrackEntry, ReadError> {
    let (mut number, mut uid, mut kind, mut codec_id, mut private) = (None, None, None, None, None);
    let (mut video, mut audio) = (None, None);
    for child in entry.children() {
        let child = child?;
        match child.element {
            Element::TRACK_NUMBER => child.once(&mut number, nonzero)?,
            Element::TRACK_UID => child.once(&mut uid, nonzero)?,
            Element::TRACK_TYPE => child.once(&mut kind, Whole::uint)?,
            Element::CODEC_ID => child.once(&mut codec_id, Whole::text)?,
            Element::CODEC_PRIVATE => child.once(&mut private, read_private)?,
            Element::VIDEO => child.once(&mut video, read_video)?,
            Element::AUDIO => child.once(&mut audio, read_audio)?,
            // Compressed or encrypted blocks are not what their codec says.
            Element::CONTENT_ENCODINGS => {
                return Err(Fault::Unexpected { element: child.element, parent: entry.element }.at(child.offset));
            }
            _ => {}
        }
    }
    let media = match entry.must(kind, Element::TRACK_TYPE)? {
        VIDEO => entry.must(video, Element::VIDEO)?,
        AUDIO => entry.must(audio, Element::AUDIO)?,
        other => return Err(Fault::TrackType(other).at(entry.offset)),
    };
    Ok(TrackEntry {
        number: entry.must(number, Element::TRACK_NUMBER)?,
        uid: entry.must(uid, Element::TRACK_UID)?,
        codec_id: entry.must(codec_id, Element::CODEC_ID)?,
        codec_private: private.unwrap_or_default(),
        media,
    })
}

fn nonzero(element: &Whole<'_>) -> Result<u64, ReadError> {
    match element.uint()? {
        0 => Err(element.wrong("0")),
        value => Ok(value),
    }
}

fn read_private(element: &Whole<'_>) -> Result<Bytes, ReadError> {
    let (size, max) = (element.body.len() as u64, CODEC_PRIVATE_BYTES_MAX as u64);
    if size > max {
        return Err(Fault::TooLarge { element: element.element, size, max }.at(element.offset));
    }
    Ok(Bytes::copy_from_slice(element.body))
}

fn read_video(video: &Whole<'_>) -> Result<TrackMedia, ReadError> {
    let (mut width, mut height) = (None, None);
    for child in video.children() {
        let child = child?;
        match child.element {
            Element::PIXEL_WIDTH => child.once(&mut width, nonzero)?,
            Element::PIXEL_HEIGHT => child.once(&mut height, nonzero)?,
            _ => {}
        }
    }
    let width = video.must(width, Element::PIXEL_WIDTH)?;
    Ok(TrackMedia::Video { width, height: video.must(height, Element::PIXEL_HEIGHT)? })
}

fn read_audio(audio: &Whole<'_>) -> Result<TrackMedia, ReadError> {
    let (mut rate, mut channels, mut bits) = (None, None, None);
    for child in audio.children() {
        let child = child?;
        match child.element {
            Element::SAMPLING_FREQUENCY => child.once(&mut rate, Whole::hertz)?,
            Element::CHANNELS => child.once(&mut channels, nonzero)?,
            Element::BIT_DEPTH => child.once(&mut bits, Whole::uint)?,
            _ => {}
        }
    }
    // RFC 9559 §5.1.4.1.29 has defaults: 8 kHz and one channel.
    Ok(TrackMedia::Audio { sample_rate: rate.unwrap_or(8_000), channels: channels.unwrap_or(1), bit_depth: bits })
}
