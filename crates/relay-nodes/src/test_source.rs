//! The built-in camera: `test://pattern?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=opus`.
//!
//! An ordinary source node. It is the demo, the load generator and the fixture of tests: every access unit begins with
//! a [`Stamp`] that names its frame.

mod settings;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use relay_encode::{EncodeError, EncodedFrame, Encoder, EncoderConfig, Frame, FrameKind, Pattern, Tone, ToneError};
use relay_graph::{Clock, NodeError, Output, Source, SourceContext, SourceDescription};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, stamp::Stamp};
use tracing::{info, warn};
use url::Url;

use self::settings::Settings;

pub use self::settings::TestUrlError;

/// A camera that draws its own pictures, and hums if asked to.
#[derive(Debug)]
pub struct TestSource {
    settings: Settings,
    /// When frame 0 was due: set by the first run and kept by the next, so that after a restart the counter and the
    /// timeline go on with the gap that was.
    origin: OnceLock<Instant>,
}

impl TestSource {
    /// The camera that a `test://pattern` URL describes.
    ///
    /// # Errors
    /// Every parameter that is unknown or out of bounds, with its value and what would be right.
    pub fn parse(url: &Url) -> Result<Self, TestUrlError> {
        Ok(Self { settings: Settings::parse(url)?, origin: OnceLock::new() })
    }
}

#[async_trait]
impl Source for TestSource {
    fn describe(&self) -> SourceDescription {
        let audio = self.settings.audio.map(settings::audio_name);
        SourceDescription {
            kind: "test",
            url: self.settings.to_string(),
            codecs: Some([Some("h264"), audio].into_iter().flatten().collect()),
            max_buffer_bytes: self.settings.size.i420_bytes() * PICTURES_HELD + TABLES_HELD,
        }
    }

    async fn run(&self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        ctx.monitor.connecting();
        ctx.monitor.announce(1 + usize::from(self.settings.audio.is_some()));
        let settings = self.settings;
        let camera =
            blocking(move || Camera::new(&settings)).await.map_err(|error| NodeError::new("encoder", error))?;
        info!(assembly = relay_encode::ASSEMBLY, "the built-in camera starts: {settings}");
        let origin = *self.origin.get_or_init(|| ctx.clock.now());
        let mut microphone = settings.audio.map(|audio| Microphone::new(audio, origin, &ctx.clock)).transpose();
        let microphone = microphone.as_mut().map_err(|error| NodeError::new("encoder", *error))?;
        let mut film = Film::new(camera, &settings, origin, ctx);
        loop {
            let due = microphone.as_ref().map_or(film.due(), |microphone| microphone.due().min(film.due()));
            tokio::select! {
                biased;
                () = ctx.shutdown.cancelled() => return Ok(()),
                () = ctx.clock.sleep_until(due) => {}
            }
            if film.due() <= due {
                film.expose(out, ctx).await?;
            }
            if let Some(microphone) = microphone {
                microphone.record(out, &ctx.clock)?;
            }
        }
    }
}

/// Pictures' worth of memory: the still part and the frame of the pattern, and openh264's source, reference and
/// reconstruction pictures with their borders; measured with openh264 0.9.9: 9.1 at 720p, 8.6 at 2160p.
const PICTURES_HELD: usize = 10;
/// What openh264 holds whatever the size: measured 1.4 MiB in all at 320x180, of which 0.8 MiB are pictures.
const TABLES_HELD: usize = 1 << 20;

/// A camera that is late by no more than this catches up; one that is later skips to the frame that is due now.
const LATE_MAX: Duration = Duration::from_millis(500);

/// Key frames that are asked for come no closer than this, however many sinks ask.
const KEY_INTERVAL_MIN: Duration = Duration::from_millis(500);

const VIDEO_TRACK: TrackId = TrackId(1);
const AUDIO_TRACK: TrackId = TrackId(2);

/// The video track, frame by frame.
struct Film {
    /// `None` only while a frame is being encoded.
    camera: Option<Camera>,
    pace: Pace,
    track: Option<Arc<Track>>,
    flags: Flags,
    key_frame_requests: u64,
    last_key: Option<Instant>,
    skipped: u64,
}

impl Film {
    fn new(camera: Camera, settings: &Settings, origin: Instant, ctx: &SourceContext) -> Self {
        let pace = Pace::new(origin, settings.fps, ctx.clock.now());
        let flags = pace.first_flags();
        Self { camera: Some(camera), pace, track: None, flags, key_frame_requests: 0, last_key: None, skipped: 0 }
    }

    fn due(&self) -> Instant {
        self.pace.due()
    }

    /// Draws, encodes and pushes the frame that is due.
    async fn expose(&mut self, out: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> {
        let Some(camera) = self.camera.take() else {
            return Err(NodeError::new("bug", "the camera is away"));
        };
        let now = ctx.clock.now();
        let skipped = self.pace.skip(now);
        self.left_out(ctx, skipped, "the machine is too slow for the built-in camera");
        let counter = self.pace.next;
        let utc = ctx.clock.utc().plus_nanos(-nanos(now.saturating_duration_since(self.due())));
        let (kind, requests) = self.kind(out, now);
        let (camera, encoded) = blocking(move || camera.shoot(counter, utc, kind)).await;
        self.camera = Some(camera);
        self.pace.next += 1;
        let Some(encoded) = encoded.map_err(|error| NodeError::new("encoder", error))? else {
            self.left_out(ctx, 1, "the bit rate is too low for the picture");
            return Ok(());
        };
        if encoded.key {
            self.key_frame_requests = requests;
            self.last_key = Some(now);
        }
        out.push(self.packet(encoded, counter, utc, ctx.clock.now()));
        ctx.monitor.live();
        Ok(())
    }

    /// Counts frames that will be missing, and says so the first time.
    fn left_out(&mut self, ctx: &SourceContext, frames: u64, why: &'static str) {
        if frames > 0 && self.skipped == 0 {
            warn!("{why}: frames are skipped, the first is number {}", self.pace.next.saturating_sub(frames));
            ctx.monitor.warn(format!("{why}: frames are skipped"));
        }
        self.skipped += frames;
        ctx.monitor.quirk("skipped_frames", frames);
    }

    /// Whether a sink wants a key frame, and the requests that one would answer.
    fn kind(&self, out: &Output, now: Instant) -> (FrameKind, u64) {
        let requests = out.key_frame_requests();
        let recent = self.last_key.is_some_and(|last| now.saturating_duration_since(last) < KEY_INTERVAL_MIN);
        let asked = requests != self.key_frame_requests && !recent;
        (if asked { FrameKind::Key } else { FrameKind::Any }, requests)
    }

    fn packet(&mut self, encoded: EncodedFrame, counter: u64, utc: UtcTime, arrival: Instant) -> Packet {
        let codec = Codec::H264(encoded.config);
        let track = match self.track.take().filter(|track| track.codec == codec) {
            Some(track) => track,
            None => Arc::new(Track { id: VIDEO_TRACK, codec, timebase: Timebase::VIDEO }),
        };
        self.track = Some(track.clone());
        let start = self.pace.ticks(counter, Timebase::VIDEO);
        let end = self.pace.ticks(counter + 1, Timebase::VIDEO);
        let time = Timestamp::new(start, Timebase::VIDEO);
        let mut flags = std::mem::take(&mut self.flags);
        flags.set(Flags::KEY, encoded.key);
        Packet {
            track,
            dts: time,
            pts: time,
            duration: u32::try_from(end - start).ok(),
            arrival,
            wall: Wall { utc, origin: WallOrigin::Generated },
            flags,
            payload: encoded.payload,
        }
    }
}

/// The audio track, 20 ms by 20 ms. A frame is due when its last sample is.
struct Microphone {
    tone: Tone,
    track: Arc<Track>,
    pace: Pace,
    flags: Flags,
}

impl Microphone {
    const FRAMES_PER_SECOND: u32 = 50;

    fn new(codec: relay_encode::ToneCodec, origin: Instant, clock: &Clock) -> Result<Self, ToneError> {
        let tone = Tone::new(codec)?;
        let track = Arc::new(Track { id: AUDIO_TRACK, codec: tone.codec(), timebase: tone.timebase() });
        let pace = Pace::new(origin, Self::FRAMES_PER_SECOND, clock.now());
        Ok(Self { tone, track, flags: pace.first_flags(), pace })
    }

    fn due(&self) -> Instant {
        self.pace.at(self.pace.next + 1)
    }

    /// Pushes the frames that are due.
    fn record(&mut self, out: &mut Output, clock: &Clock) -> Result<(), NodeError> {
        let now = clock.now();
        self.pace.skip(now);
        while self.due() <= now {
            let frame = self.pace.next;
            let utc = clock.utc().plus_nanos(-nanos(now.saturating_duration_since(self.pace.at(frame))));
            let payload = self.tone.next_frame(utc).map_err(|error| NodeError::new("encoder", error))?;
            let time = Timestamp::new(self.pace.ticks(frame, self.track.timebase), self.track.timebase);
            out.push(Packet {
                track: self.track.clone(),
                dts: time,
                pts: time,
                duration: Some(self.tone.frame_ticks()),
                arrival: now,
                wall: Wall { utc, origin: WallOrigin::Generated },
                flags: std::mem::take(&mut self.flags),
                payload,
            });
            self.pace.next += 1;
        }
        Ok(())
    }
}

/// When each frame of a track is due, counted from the source's origin.
struct Pace {
    origin: Instant,
    per_second: u32,
    next: u64,
}

impl Pace {
    /// Begins with the first frame that is due at `now` or after.
    fn new(origin: Instant, per_second: u32, now: Instant) -> Self {
        let mut pace = Self { origin, per_second, next: 0 };
        let passed = pace.passed(now);
        pace.next = if pace.at(passed) < now { passed + 1 } else { passed };
        pace
    }

    fn due(&self) -> Instant {
        self.at(self.next)
    }

    fn at(&self, frame: u64) -> Instant {
        let nanos = u128::from(frame) * 1_000_000_000 / u128::from(self.per_second);
        self.origin + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// A later run begins with a break: what lies between was lost with the run before.
    fn first_flags(&self) -> Flags {
        if self.next > 0 { Flags::DISCONTINUITY } else { Flags::empty() }
    }

    /// The media time of a frame, so that no rounding adds up.
    fn ticks(&self, frame: u64, timebase: Timebase) -> i64 {
        let ticks = u128::from(frame) * u128::from(timebase.hz()) / u128::from(self.per_second);
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// The newest frame that is due at `now`.
    fn passed(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(nanos * u128::from(self.per_second) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    /// Goes on with the newest frame that is due if the next one is late by more than [`LATE_MAX`]; returns how many
    /// were left out.
    fn skip(&mut self, now: Instant) -> u64 {
        if now.saturating_duration_since(self.due()) <= LATE_MAX {
            return 0;
        }
        let skipped = self.passed(now).saturating_sub(self.next);
        self.next += skipped;
        skipped
    }
}

/// The picture and its encoder, handed to a blocking thread and back with every frame.
struct Camera {
    pattern: Pattern,
    frame: Frame,
    encoder: Encoder,
}

impl Camera {
    fn new(settings: &Settings) -> Result<Self, EncodeError> {
        let Settings { size, fps, bitrate_bps, .. } = *settings;
        let config = EncoderConfig {
            width: size.width(),
            height: size.height(),
            fps,
            bitrate_bps,
            gop_frames: settings.gop_frames(),
        };
        Ok(Self { pattern: Pattern::new(size), frame: Frame::new(size), encoder: Encoder::new(config)? })
    }

    fn shoot(
        mut self,
        counter: u64,
        utc: UtcTime,
        kind: FrameKind,
    ) -> (Self, Result<Option<EncodedFrame>, EncodeError>) {
        self.pattern.draw(&mut self.frame, counter, utc);
        let stamp = Stamp { counter, utc_nanos: utc.unix_nanos() }.to_nal();
        let encoded = self.encoder.encode(&self.frame, kind, &[&stamp]);
        (self, encoded)
    }
}

/// Runs `job` where it may block; a panic in it goes on in the caller.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(job).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Only when the runtime is shutting down: this task is dropped with it.
        Err(_) => std::future::pending().await,
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
