//! ITU-T H.264.

use bytes::Bytes;

/// The parameters of an H.264 track: the parameter sets and what they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    sps: Bytes,
}
