//! ITU-T H.265.

use bytes::Bytes;

/// The parameters of an H.265 track: the parameter sets and what they say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    sps: Bytes,
}
