//! HLS origins, live and on demand.
//!
//! relay-hls decides what to fetch and when, whatever the origin does, and takes the segments apart. Here its units
//! become packets on one timeline, wait in a buffer until their time comes, and go into the ring. Neither the ring nor
//! the sinks hear of an origin that fails: packets stop, and come again.

mod health;
mod pace;
mod pull;
mod timeline;

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use relay_graph::{BackoffLimits, NodeError, Output, Source, SourceContext, SourceDescription};
pub use relay_hls::proto::Choice as Variant;
use relay_hls::proto::redacted;
use relay_media::Kind;
use url::Url;

pub use self::pace::Pace;
use self::pull::Pull;

/// What an [`HlsSource`] pulls, and how.
#[derive(Clone)]
pub struct HlsOptions {
    /// `http(s)://[user:password@]host[:port]/path.m3u8`: a master or a media playlist.
    pub url: Url,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// A file that holds a token for `Authorization: Bearer`; sent to the playlist's own host only, and read again
    /// when that is refused.
    pub bearer_file: Option<PathBuf>,
    /// A file of certificates (PEM) to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Which variant of a master playlist.
    pub variant: Variant,
    /// How far from the end of a live playlist to begin; as the server says, else three target durations.
    pub live_edge: Option<Duration>,
    /// When further behind the live edge than this, jump to it.
    pub max_behind: Option<Duration>,
    /// Whether to use parts, blocking reloads and hints where the server offers them.
    pub low_latency: bool,
    /// How fast media is let out.
    pub pace: Pace,
    /// How much media may wait before no other segment is begun; three target durations if `None`.
    pub buffer_time: Option<Duration>,
    /// How many bytes may wait.
    pub buffer_bytes: usize,
    /// After how long without news the source counts as stalled; three target durations if `None`.
    pub stall_timeout: Option<Duration>,
    /// Tracks that must not fall silent; video need not be listed.
    pub require_tracks: Vec<Kind>,
    /// The bounds of the wait between tries.
    pub reconnect: BackoffLimits,
}

/// 18 s of 14 Mbit/s.
const BUFFER_BYTES: usize = 32 << 20;
/// What else may be held, at its bounds: two playlists of 4 MiB, parsed 13 MiB each; two access units of 8 MiB in the
/// making; four initialisation sections of 1 MiB; and 2 MiB of headers, sound and what was just read.
const OUTSIDE_BYTES: usize = (2 * 13 + 2 * 8 + 4 + 2) << 20;

impl HlsOptions {
    /// The highest variant, three target durations from the live edge, low latency where it is offered, 32 MiB of
    /// buffer, waits of 250 ms to 30 s.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            headers: Vec::new(),
            bearer_file: None,
            ca_file: None,
            variant: Variant::Highest,
            live_edge: None,
            max_behind: None,
            low_latency: true,
            pace: Pace::Realtime,
            buffer_time: None,
            buffer_bytes: BUFFER_BYTES,
            stall_timeout: None,
            require_tracks: Vec::new(),
            reconnect: BackoffLimits::default(),
        }
    }
}

/// An HLS playlist that is pulled for ever.
pub struct HlsSource {
    options: HlsOptions,
}

impl HlsSource {
    /// A source of `options`.
    pub fn new(options: HlsOptions) -> Self {
        Self { options }
    }
}

#[async_trait]
impl Source for HlsSource {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            kind: "hls",
            url: redacted(&self.options.url),
            codecs: None,
            max_buffer_bytes: self.options.buffer_bytes.saturating_add(OUTSIDE_BYTES),
        }
    }

    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        let mut pull = Pull::new(&self.options, ctx)?;
        loop {
            let wake = pull.advance(out);
            tokio::select! {
                biased;
                () = ctx.shutdown.cancelled() => {
                    pull.flush(out);
                    return Ok(());
                }
                () = pull.hear() => {}
                () = ctx.clock.sleep_until(wake) => pull.time_out(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
