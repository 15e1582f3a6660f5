//! RTSP cameras, through retina's session and our own depacketizers.
//!
//! retina (0.4.21) does the conversation: DESCRIBE, SETUP, PLAY, Basic and Digest, interleaving, keep-alive, TEARDOWN.
//! Every call gets a timeout here, since retina has none. Its RTP packets are pumped as they are; `relay-rtp` makes
//! the units. Over UDP retina drops packets that arrive late, before they are seen here.

mod connection;
mod failure;
mod tracks;

use std::time::Duration;

use async_trait::async_trait;
use relay_graph::{Backoff, BackoffLimits, NodeError, Output, Source, SourceContext, SourceDescription};
use relay_media::Kind;
use retina::client::Credentials;
use tracing::{info, warn};
use url::Url;

use self::{connection::Connection, failure::Failure, tracks::Timeline};

/// How RTP travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection (RFC 2326 §10.12): passes every firewall, loses nothing.
    #[default]
    Tcp,
    /// A pair of ports of its own.
    Udp,
    /// UDP; TCP when nothing came within 3 s.
    Auto,
}

/// What an [`RtspSource`] pulls, and how.
#[derive(Clone, Debug)]
pub struct RtspOptions {
    /// `rtsp://[user:password@]host[:port]/path`.
    pub url: Url,
    /// How RTP travels.
    pub transport: Transport,
    /// After how long without media a connection counts as stalled.
    pub stall_timeout: Duration,
    /// After how long with video but without a key frame; never before `stall_timeout`.
    pub key_frame_timeout: Duration,
    /// The bounds of the wait between tries.
    pub reconnect: BackoffLimits,
    /// Tracks that must not fall silent; video need not be listed.
    pub require_tracks: Vec<Kind>,
}

impl RtspOptions {
    /// TCP, a stall after 5 s or 30 s without a key frame, waits of 250 ms to 30 s.
    pub fn new(url: Url) -> Self {
        Self {
            url,
            transport: Transport::Tcp,
            stall_timeout: Duration::from_secs(5),
            key_frame_timeout: connection::KEY_FRAME_TIMEOUT,
            reconnect: BackoffLimits::default(),
            require_tracks: Vec::new(),
        }
    }
}

/// A camera that is pulled for ever.
pub struct RtspSource {
    options: RtspOptions,
    credentials: Option<Credentials>,
}

impl RtspSource {
    /// A source of `options`; the credentials are taken out of the URL and appear nowhere else.
    pub fn new(mut options: RtspOptions) -> Self {
        let credentials = (!options.url.username().is_empty()).then(|| Credentials {
            username: percent_decoded(options.url.username()),
            password: percent_decoded(options.url.password().unwrap_or_default()),
        });
        // Both fail only for URLs that cannot have credentials.
        let _ = options.url.set_username("");
        let _ = options.url.set_password(None);
        Self { options, credentials }
    }
}

#[async_trait]
impl Source for RtspSource {
    fn describe(&self) -> SourceDescription {
        SourceDescription {
            kind: "rtsp",
            url: self.options.url.to_string(),
            codecs: None,
            max_buffer_bytes: connection::MAX_BUFFER_BYTES,
        }
    }

    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        let mut tries = Tries::new(self.options.reconnect);
        let mut timeline = Timeline::default();
        let mut transport = if self.options.transport == Transport::Tcp { Transport::Tcp } else { Transport::Udp };
        loop {
            ctx.monitor.connecting();
            let mut connection = Connection::new(&self.options, self.credentials.as_ref(), transport);
            let failure = tokio::select! {
                biased;
                () = ctx.shutdown.cancelled() => {
                    connection.teardown(&ctx.clock).await;
                    return Ok(());
                }
                failure = connection.run(&mut timeline, out, ctx, &mut tries.backoff) => failure,
            };
            connection.teardown(&ctx.clock).await;
            let udp_fails = matches!(failure.reason, connection::UDP_SILENT | failure::TRANSPORT_REFUSED);
            if udp_fails && self.options.transport == Transport::Auto && transport == Transport::Udp {
                info!("{}; going on over TCP", failure.text);
                transport = Transport::Tcp;
                continue;
            }
            let wait = tries.wait(&failure, ctx);
            tokio::select! {
                biased;
                () = ctx.shutdown.cancelled() => return Ok(()),
                () = ctx.clock.sleep(wait) => {}
            }
        }
    }
}

/// The memory of past tries: how long to wait, and what was said last.
struct Tries {
    backoff: Backoff,
    rng: fastrand::Rng,
    said: Option<(&'static str, std::time::Instant)>,
}

impl Tries {
    fn new(limits: BackoffLimits) -> Self {
        Self { backoff: Backoff::new(limits), rng: fastrand::Rng::new(), said: None }
    }

    /// Reports `failure` and returns the wait before the next try. The log hears of a failure when its cause changes,
    /// and once a minute while it doesn't; the monitor of every one.
    fn wait(&mut self, failure: &Failure, ctx: &SourceContext) -> Duration {
        const REPEAT: Duration = Duration::from_secs(60);
        let now = ctx.clock.now();
        let wait = self.backoff.next_delay(now, failure.class, &mut self.rng);
        ctx.monitor.backoff(failure.reason, failure.text.as_str(), wait);
        let repeated = self.said.is_some_and(|(reason, at)| reason == failure.reason && now < at + REPEAT);
        if !repeated {
            self.said = Some((failure.reason, now));
            let attempt = self.backoff.attempt();
            warn!(reason = failure.reason, attempt, "{}; trying again in {wait:.1?}", failure.text);
        }
        wait
    }
}

/// A user or password as it was before it was put into a URL (RFC 3986 §2.1).
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { rest.get(3..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
