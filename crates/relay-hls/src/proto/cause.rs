//! Why something went wrong: a fixed word that counts, and a sentence that explains.

use std::fmt;

/// One failure: what metrics count and what a person reads. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One of a few fixed words, [`reason`].
    pub reason: &'static str,
    /// What happened, in plain words.
    pub text: String,
    /// How soon to try again.
    pub class: Class,
}

/// How soon it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Soon: within half a target duration.
    Cheap,
    /// A person probably has to act: the waits double.
    Slow,
    /// Never: the same thing would come again.
    Final,
}

impl Cause {
    pub(crate) fn cheap(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), class: Class::Cheap }
    }

    pub(crate) fn slow(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), class: Class::Slow }
    }

    pub(crate) fn last(reason: &'static str, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), class: Class::Final }
    }

    /// The peer says that this URL is none any more: it may have been signed for a while only.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.reason, reason::HTTP_401 | reason::HTTP_403 | reason::HTTP_404 | reason::HTTP_410)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The words.
pub mod reason {
    /// The host's name was not resolved.
    pub const DNS: &str = "dns";
    /// No connection: refused, unreachable.
    pub const CONNECT: &str = "connect";
    /// No connection in time.
    pub const CONNECT_TIMEOUT: &str = "connect_timeout";
    /// The TLS handshake failed.
    pub const TLS: &str = "tls";
    /// The certificate is not trusted, expired, or another host's.
    pub const CERTIFICATE: &str = "certificate";
    /// More than ten redirects, or one to nowhere.
    pub const REDIRECTS: &str = "redirects";
    /// The connection broke before the answer, or in the middle of it.
    pub const RESET: &str = "reset";
    /// The answer ended before its announced length.
    pub const TRUNCATED: &str = "truncated";
    /// What came is no HTTP.
    pub const PROTOCOL: &str = "protocol";
    /// The request could not be made.
    pub const REQUEST: &str = "request";
    /// No answer in time.
    pub const NO_ANSWER: &str = "no_answer";
    /// The answer stopped in the middle.
    pub const QUIET: &str = "quiet";
    /// The answer trickles.
    pub const TRICKLE: &str = "trickle";
    /// The answer is larger than may be.
    pub const TOO_LARGE: &str = "too_large";
    /// 401.
    pub const HTTP_401: &str = "http_401";
    /// 403.
    pub const HTTP_403: &str = "http_403";
    /// 404.
    pub const HTTP_404: &str = "http_404";
    /// 410.
    pub const HTTP_410: &str = "http_410";
    /// Any other 4xx.
    pub const HTTP_4XX: &str = "http_4xx";
    /// 5xx.
    pub const HTTP_5XX: &str = "http_5xx";
    /// A status that is no answer to what was asked.
    pub const HTTP_STATUS: &str = "http_status";
    /// The origin sent another range than asked for.
    pub const RANGE: &str = "range";
    /// A resource is another than it was when its first part was taken.
    pub const CHANGED: &str = "changed";
    /// What came is no playlist.
    pub const NOT_PLAYLIST: &str = "not_playlist";
    /// A playlist without a segment.
    pub const EMPTY_PLAYLIST: &str = "empty_playlist";
    /// A master playlist without a variant that could be played.
    pub const NO_VARIANT: &str = "no_variant";
    /// A delta playlist that doesn't fit what is known.
    pub const DELTA: &str = "delta";
    /// HTML or other text where media was expected.
    pub const NOT_MEDIA: &str = "not_media";
    /// A segment that makes no sense, or is of a kind that is not carried.
    pub const BAD_MEDIA: &str = "bad_media";
    /// The key doesn't decrypt the segment.
    pub const WRONG_KEY: &str = "wrong_key";
    /// A key that is not 16 bytes long.
    pub const KEY_SIZE: &str = "key_size";
    /// An encryption that is not supported: SAMPLE-AES and others.
    pub const ENCRYPTION: &str = "encryption";
    /// The playlist did not change for three target durations.
    pub const PLAYLIST_FROZEN: &str = "playlist_frozen";
    /// The media sequence went back.
    pub const SEQUENCE_BACK: &str = "sequence_back";
    /// The media sequence leapt.
    pub const SEQUENCE_LEAP: &str = "sequence_leap";
    /// The same sequence numbers name other segments.
    pub const SEQUENCE_REUSED: &str = "sequence_reused";
    /// Segments left the playlist before they could be had.
    pub const FELL_BEHIND: &str = "fell_behind";
    /// Further behind the live edge than allowed.
    pub const MAX_BEHIND: &str = "max_behind";
    /// The playlist says that the segment is missing (EXT-X-GAP).
    pub const GAP_TAG: &str = "gap_tag";
    /// A segment was given up.
    pub const SEGMENT_LOST: &str = "segment_lost";
    /// Another variant is played.
    pub const VARIANT_SWITCHED: &str = "variant_switched";
}
