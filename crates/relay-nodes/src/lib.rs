//! The nodes: one file each, translating a protocol or a file format to and from packets.

mod rtsp_source;
mod source_url;
mod test_source;

pub use rtsp_source::{RtspOptions, RtspSource, Transport};
pub use source_url::{SourceUrlError, source};
pub use test_source::{TestSource, TestUrlError};
