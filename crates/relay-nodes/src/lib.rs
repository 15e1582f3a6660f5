//! The nodes: one file each, translating a protocol or a file format to and from packets.

mod hls_source;
mod kvs_sink;
mod record_sink;
mod rtsp_source;
mod source_url;
mod test_source;
mod webrtc_sink;

pub use hls_source::{HlsOptions, HlsSource, Pace, Variant};
pub use kvs_sink::{KvsClouds, KvsMonitor, KvsOptions, KvsSeen, KvsSink};
pub use record_sink::{RecordOptions, RecordSink};
pub use rtsp_source::{RtspOptions, RtspSource, Transport};
pub use source_url::{SourceUrlError, source};
pub use test_source::{TestSource, TestUrlError};
pub use webrtc_sink::{
    JoinStages, OpenError, Opened, PatchError, Places, SessionId, ViewerSnapshot, Viewers, WebRtcOptions, WebRtcSink,
};

/// Whether the built-in camera's encoder has its assembly, which more than doubles its speed.
pub const ENCODER_ASSEMBLY: bool = relay_encode::ASSEMBLY;
