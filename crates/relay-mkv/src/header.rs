//! What a session begins with: the EBML header (RFC 8794 §11.2.4), the Segment, Info and Tracks.

use std::sync::Arc;

use relay_media::{Codec, Track};

use crate::{
    Element, Fault, ReadError,
    ebml::{UNKNOWN_SIZE, Whole, put, put_id, put_uint},
    track,
};

const DOC_TYPE: &str = "matroska";
/// As the service's own producer has it; SimpleBlock is of version 2.
const DOC_TYPE_VERSION: u64 = 2;
/// CodecDelay and SeekPreRoll, which Opus asks for, are of version 4; a reader of version 2 may ignore them.
const DOC_TYPE_VERSION_OPUS: u64 = 4;
/// The latest version of Matroska (RFC 9559).
const DOC_TYPE_VERSION_MAX: u64 = 4;

/// Nanoseconds of a tick: a millisecond.
pub(crate) const TIMECODE_SCALE_NS: u64 = 1_000_000;

const APP: &str = env!("CARGO_PKG_NAME");

/// The EBML header of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The version of Matroska it was written by.
    pub doc_type_version: u64,
    /// The version of Matroska that reads it.
    pub doc_type_read_version: u64,
}

/// What the Segment tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Nanoseconds of a tick.
    pub timecode_scale_ns: u64,
    /// SegmentUID, if it has one of the 16 bytes it should have.
    pub uid: Option<[u8; 16]>,
    /// What wrote the Matroska.
    pub muxing_app: String,
    /// What made the program that did so.
    pub writing_app: String,
}

/// Everything before the first cluster.
pub(crate) fn write(uid: [u8; 16], tracks: &[Arc<Track>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    let opus = tracks.iter().any(|track| matches!(track.codec, Codec::Opus(_)));
    let version = if opus { DOC_TYPE_VERSION_OPUS } else { DOC_TYPE_VERSION };
    let mut body = Vec::new();
    put_uint(&mut body, Element::EBML_VERSION, 1);
    put_uint(&mut body, Element::EBML_READ_VERSION, 1);
    put_uint(&mut body, Element::EBML_MAX_ID_LENGTH, 4);
    put_uint(&mut body, Element::EBML_MAX_SIZE_LENGTH, 8);
    put(&mut body, Element::DOC_TYPE, DOC_TYPE.as_bytes());
    put_uint(&mut body, Element::DOC_TYPE_VERSION, version);
    put_uint(&mut body, Element::DOC_TYPE_READ_VERSION, DOC_TYPE_VERSION);
    put(&mut out, Element::EBML, &body);

    put_id(&mut out, Element::SEGMENT);
    out.push(UNKNOWN_SIZE);

    body.clear();
    put(&mut body, Element::SEGMENT_UID, &uid);
    put_uint(&mut body, Element::TIMECODE_SCALE, TIMECODE_SCALE_NS);
    put(&mut body, Element::MUXING_APP, APP.as_bytes());
    put(&mut body, Element::WRITING_APP, APP.as_bytes());
    put(&mut out, Element::INFO, &body);

    body.clear();
    for (number, track) in (1..).zip(tracks) {
        track::write(&mut body, number, &track.codec);
    }
    put(&mut out, Element::TRACKS, &body);
    out
}

/// Reads the EBML header.
pub(crate) fn read_ebml(ebml: &Whole<'_>) -> Result<Session, ReadError> {
    let (mut read_version, mut id_length, mut size_length) = (None, None, None);
    let (mut doc_type, mut doc_version, mut doc_read_version) = (None, None, None);
    for child in ebml.children() {
        let child = child?;
        match child.element {
            Element::EBML_READ_VERSION => child.once(&mut read_version, up_to::<1>)?,
            Element::EBML_MAX_ID_LENGTH => child.once(&mut id_length, up_to::<4>)?,
            Element::EBML_MAX_SIZE_LENGTH => child.once(&mut size_length, up_to::<8>)?,
            Element::DOC_TYPE => child.once(&mut doc_type, Whole::text)?,
            Element::DOC_TYPE_VERSION => child.once(&mut doc_version, Whole::uint)?,
            Element::DOC_TYPE_READ_VERSION => child.once(&mut doc_read_version, up_to::<DOC_TYPE_VERSION_MAX>)?,
            _ => {}
        }
    }
    let doc_type = ebml.must(doc_type, Element::DOC_TYPE)?;
    if doc_type != DOC_TYPE {
        return Err(Fault::DocType(doc_type).at(ebml.offset));
    }
    Ok(Session { doc_type_version: doc_version.unwrap_or(1), doc_type_read_version: doc_read_version.unwrap_or(1) })
}

fn up_to<const MAX: u64>(element: &Whole<'_>) -> Result<u64, ReadError> {
    match element.uint()? {
        value if value <= MAX => Ok(value),
        value => Err(Fault::Version(element.element, value).at(element.offset)),
    }
}

/// Reads Info.
pub(crate) fn read_info(info: &Whole<'_>) -> Result<Info, ReadError> {
    let (mut scale, mut uid, mut muxing, mut writing) = (None, None, None, None);
    for child in info.children() {
        let child = child?;
        match child.element {
            Element::TIMECODE_SCALE => child.once(&mut scale, |child| match child.uint()? {
                0 => Err(child.wrong("0")),
                value => Ok(value),
            })?,
            Element::SEGMENT_UID => child
                .once(&mut uid, |child| <[u8; 16]>::try_from(child.body).map_err(|_| child.wrong("not of 16 bytes")))?,
            Element::MUXING_APP => child.once(&mut muxing, Whole::text)?,
            Element::WRITING_APP => child.once(&mut writing, Whole::text)?,
            _ => {}
        }
    }
    Ok(Info {
        timecode_scale_ns: scale.unwrap_or(TIMECODE_SCALE_NS),
        uid,
        muxing_app: info.must(muxing, Element::MUXING_APP)?,
        writing_app: info.must(writing, Element::WRITING_APP)?,
    })
}
