//! The elements of EBML (RFC 8794) and Matroska (RFC 9559) that are written or read here, by their IDs.

use std::fmt;

/// An element's ID, its length marker included, as RFC 9559 spells it: `0x1F43B675` is a Cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element(u32);

macro_rules! elements {
    ($($constant:ident $id:literal $name:literal;)*) => {
        impl Element {
            $(pub(crate) const $constant: Self = Self($id);)*

            /// The name in RFC 8794 or RFC 9559; `None` for one that is of no interest here.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

elements! {
    EBML 0x1A45_DFA3 "EBML";
    EBML_VERSION 0x4286 "EBMLVersion";
    EBML_READ_VERSION 0x42F7 "EBMLReadVersion";
    EBML_MAX_ID_LENGTH 0x42F2 "EBMLMaxIDLength";
    EBML_MAX_SIZE_LENGTH 0x42F3 "EBMLMaxSizeLength";
    DOC_TYPE 0x4282 "DocType";
    DOC_TYPE_VERSION 0x4287 "DocTypeVersion";
    DOC_TYPE_READ_VERSION 0x4285 "DocTypeReadVersion";
    VOID 0xEC "Void";
    CRC_32 0xBF "CRC-32";

    SEGMENT 0x1853_8067 "Segment";
    SEEK_HEAD 0x114D_9B74 "SeekHead";
    CUES 0x1C53_BB6B "Cues";
    CHAPTERS 0x1043_A770 "Chapters";
    ATTACHMENTS 0x1941_A469 "Attachments";

    INFO 0x1549_A966 "Info";
    SEGMENT_UID 0x73A4 "SegmentUID";
    TIMECODE_SCALE 0x002A_D7B1 "TimestampScale";
    MUXING_APP 0x4D80 "MuxingApp";
    WRITING_APP 0x5741 "WritingApp";

    TRACKS 0x1654_AE6B "Tracks";
    TRACK_ENTRY 0xAE "TrackEntry";
    TRACK_NUMBER 0xD7 "TrackNumber";
    TRACK_UID 0x73C5 "TrackUID";
    TRACK_TYPE 0x83 "TrackType";
    CODEC_ID 0x86 "CodecID";
    CODEC_PRIVATE 0x63A2 "CodecPrivate";
    CODEC_DELAY 0x56AA "CodecDelay";
    SEEK_PRE_ROLL 0x56BB "SeekPreRoll";
    CONTENT_ENCODINGS 0x6D80 "ContentEncodings";
    VIDEO 0xE0 "Video";
    PIXEL_WIDTH 0xB0 "PixelWidth";
    PIXEL_HEIGHT 0xBA "PixelHeight";
    AUDIO 0xE1 "Audio";
    SAMPLING_FREQUENCY 0xB5 "SamplingFrequency";
    OUTPUT_SAMPLING_FREQUENCY 0x78B5 "OutputSamplingFrequency";
    CHANNELS 0x9F "Channels";
    BIT_DEPTH 0x6264 "BitDepth";

    CLUSTER 0x1F43_B675 "Cluster";
    TIMECODE 0xE7 "Timestamp";
    POSITION 0xA7 "Position";
    PREV_SIZE 0xAB "PrevSize";
    SIMPLE_BLOCK 0xA3 "SimpleBlock";
    BLOCK_GROUP 0xA0 "BlockGroup";
    BLOCK 0xA1 "Block";
    REFERENCE_BLOCK 0xFB "ReferenceBlock";

    TAGS 0x1254_C367 "Tags";
    TAG 0x7373 "Tag";
    SIMPLE_TAG 0x67C8 "SimpleTag";
    TAG_NAME 0x45A3 "TagName";
    TAG_STRING 0x4487 "TagString";
}

impl Element {
    pub(crate) const fn new(id: u32) -> Self {
        Self(id)
    }

    /// The ID with its length marker.
    pub const fn id(self) -> u32 {
        self.0
    }

    /// May stand directly in a Segment.
    pub(crate) fn is_top_level(self) -> bool {
        matches!(self, Self::INFO | Self::TRACKS | Self::CLUSTER | Self::TAGS) || self.is_skipped_in_segment()
    }

    /// What other writers put into a Segment and nobody here wants to know.
    pub(crate) fn is_skipped_in_segment(self) -> bool {
        matches!(self, Self::SEEK_HEAD | Self::CUES | Self::CHAPTERS | Self::ATTACHMENTS | Self::VOID | Self::CRC_32)
    }

    /// What a Cluster may hold beside its time and its blocks.
    pub(crate) fn is_skipped_in_cluster(self) -> bool {
        matches!(self, Self::POSITION | Self::PREV_SIZE | Self::VOID | Self::CRC_32)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "element {:X}", self.0),
        }
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
