//! How the source is: what failed becomes a state, a count, and a line in the log.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use relay_graph::{SourceContext, StallDetector, StallLimits};
use relay_hls::proto::{Cause, Failure, Rendition, What, reason};
use relay_media::{Codec, Kind, Packet, Track};
use tracing::{info, warn};

use super::HlsOptions;

/// The log hears of a cause again after so long, while nothing else changes.
const REPEAT: Duration = Duration::from_secs(60);
/// And never more often than this.
const BREATH: Duration = Duration::from_secs(1);
/// Without a packet for this long, what is wrong is the state; until then the buffer hides it.
const DRY: Duration = Duration::from_secs(1);
/// What is assumed before a playlist has told its target duration.
const TARGET_UNKNOWN: Duration = Duration::from_secs(4);

/// The state of the source, as the monitor and the log hear of it.
pub(super) struct Health<'a> {
    ctx: &'a SourceContext,
    options: &'a HlsOptions,
    target: Duration,
    detector: StallDetector,
    has_video: bool,
    /// What is wrong while nothing comes.
    trouble: Option<Trouble>,
    is_live: bool,
    was_live: bool,
    is_live_said: bool,
    /// When the last packet was let out, or the source began.
    flowed: Instant,
    /// What flows, in words.
    tracks: [Option<String>; 2],
    said: BTreeMap<&'static str, Instant>,
}

/// What is wrong, and since what.
#[derive(Clone, Debug)]
struct Trouble {
    reason: &'static str,
    text: String,
    kind: TroubleKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TroubleKind {
    /// Requests fail.
    Failing { what: What, next_try: Instant },
    /// They succeed, and nothing comes of them.
    Stalled,
}

impl<'a> Health<'a> {
    pub(super) fn new(ctx: &'a SourceContext, options: &'a HlsOptions) -> Self {
        let now = ctx.clock.now();
        ctx.monitor.connecting();
        Self {
            ctx,
            options,
            target: TARGET_UNKNOWN,
            detector: detector(options, TARGET_UNKNOWN, false, now),
            has_video: false,
            trouble: None,
            is_live: false,
            was_live: false,
            is_live_said: true,
            flowed: now,
            tracks: [None, None],
            said: BTreeMap::new(),
        }
    }

    /// The playlist tells its target duration.
    pub(super) fn learn(&mut self, target: Option<Duration>) {
        let Some(target) = target.filter(|target| *target != self.target) else { return };
        self.target = target;
        self.detector = detector(self.options, target, self.has_video, self.ctx.clock.now());
    }

    /// A request begins.
    pub(super) fn asking(&mut self, asked: What) {
        let is_retry = matches!(&self.trouble, Some(Trouble { kind: TroubleKind::Failing { what, .. }, .. })
            if *what == asked);
        if is_retry && !self.is_live {
            self.ctx.monitor.connecting();
        }
    }

    /// A try failed.
    pub(super) fn failed(&mut self, failure: &Failure, now: Instant) {
        let Failure { rendition, what, cause, attempt, next_try } = failure;
        self.ctx.monitor.failure(cause.reason, cause.text.as_str());
        if self.may_say(cause.reason, now) {
            let wait = next_try.saturating_duration_since(now);
            warn!(reason = cause.reason, attempt, "{}; trying again in {wait:.1?}", cause.text);
        }
        if *rendition == Rendition::Main {
            let kind = TroubleKind::Failing { what: *what, next_try: *next_try };
            self.trouble = Some(Trouble { reason: cause.reason, text: cause.text.clone(), kind });
            self.show(now);
        }
    }

    /// Requests succeed and nothing useful comes of them.
    pub(super) fn stalled(&mut self, rendition: Rendition, cause: &Cause, now: Instant) {
        self.note(cause.reason, &cause.text, now);
        if rendition == Rendition::Main {
            let (reason, text) = (cause.reason, cause.text.clone());
            self.trouble = Some(Trouble { reason, text, kind: TroubleKind::Stalled });
            self.show(now);
        }
    }

    /// Media is missing.
    pub(super) fn gap(&mut self, cause: &Cause, now: Instant) {
        // The tries of a segment were counted by their own reasons.
        let is_named = matches!(cause.reason, reason::FELL_BEHIND | reason::MAX_BEHIND | reason::GAP_TAG);
        self.note(if is_named { cause.reason } else { reason::SEGMENT_LOST }, &cause.text, now);
    }

    /// Something that changes no state.
    pub(super) fn note(&mut self, reason: &'static str, text: &str, now: Instant) {
        self.ctx.monitor.failure(reason, text);
        if self.may_say(reason, now) {
            warn!(reason, "{text}");
        }
    }

    /// The origin says that nothing will follow.
    pub(super) fn ended(&mut self, now: Instant) {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.reason == ENDED) {
            return;
        }
        let text = "the playlist has ended; it is looked at again each target duration".to_owned();
        if self.may_say(ENDED, now) {
            info!("{text}");
        }
        self.trouble = Some(Trouble { reason: ENDED, text, kind: TroubleKind::Stalled });
        self.show(now);
    }

    /// Media came that can be carried.
    pub(super) fn fed(&mut self) {
        self.trouble = None;
    }

    /// A packet is let out.
    pub(super) fn flows(&mut self, packet: &Packet) {
        self.flowed = packet.arrival;
        if packet.track.kind() == Kind::Video && !std::mem::replace(&mut self.has_video, true) {
            self.detector = detector(self.options, self.target, true, packet.arrival);
        }
        self.detector.on_packet(packet);
        if let Some(told) = self.tracks.get_mut(usize::from(packet.track.kind() == Kind::Audio))
            && told.is_none()
        {
            *told = Some(self::told(&packet.track));
        }
        if !self.is_live && self.detector.healthy() && self.detector.check(packet.arrival).is_none() {
            self.go_live(packet.arrival);
        }
    }

    /// Time has passed.
    pub(super) fn look(&mut self, now: Instant) {
        self.say_live(now);
        if self.is_live
            && let Some(stall) = self.detector.check(now)
            && self.trouble.is_none()
        {
            let (reason, text) = (stall.reason(), stall.to_string());
            self.note(reason, &text, now);
            self.is_live = false;
            self.ctx.monitor.stalled(text);
        }
        self.show(now);
    }

    /// Makes what is wrong the state, once it shows.
    fn show(&mut self, now: Instant) {
        let Some(trouble) = &self.trouble else { return };
        if self.is_live && now.saturating_duration_since(self.flowed) < DRY {
            return;
        }
        let was_live = std::mem::replace(&mut self.is_live, false);
        match trouble.kind {
            TroubleKind::Failing { next_try, .. } if next_try > now => {
                self.ctx.monitor.waiting(next_try.saturating_duration_since(now));
            }
            TroubleKind::Failing { .. } => {}
            TroubleKind::Stalled => self.ctx.monitor.stalled(trouble.text.as_str()),
        }
        if was_live && trouble.reason != ENDED {
            let (reason, text) = (trouble.reason, trouble.text.clone());
            if self.may_say("dry", now) {
                warn!(reason, "nothing is left to play: {text}");
            }
        }
    }

    fn go_live(&mut self, now: Instant) {
        self.is_live = true;
        self.ctx.monitor.live();
        self.said.retain(|_, at| now.saturating_duration_since(*at) < BREATH);
        self.is_live_said = false;
    }

    /// A moment later, as the tracks are known then.
    fn say_live(&mut self, now: Instant) {
        if self.is_live && !std::mem::replace(&mut self.is_live_said, true) && self.may_say("live", now) {
            let tracks: Vec<_> = self.tracks.iter().flatten().map(String::as_str).collect();
            info!("live{}: {}", if self.was_live { " again" } else { "" }, tracks.join(", "));
            self.was_live = true;
        }
    }

    fn may_say(&mut self, reason: &'static str, now: Instant) -> bool {
        let may = self.said.get(reason).is_none_or(|at| now.saturating_duration_since(*at) >= REPEAT);
        if may {
            self.said.insert(reason, now);
        }
        may
    }
}

/// A playlist that ended is no failure.
const ENDED: &str = "ended";

fn detector(options: &HlsOptions, target: Duration, expects_video: bool, now: Instant) -> StallDetector {
    let timeout = options.stall_timeout.unwrap_or(target * 3);
    let required = options.require_tracks.clone();
    let limits = StallLimits { timeout, key_frame_timeout: timeout, expects_video, required };
    StallDetector::new(limits, now)
}

/// A track in a few words.
fn told(track: &Track) -> String {
    match &track.codec {
        Codec::H264(config) => format!("H.264 {} {}x{}", config.profile_name(), config.width(), config.height()),
        Codec::H265(config) => format!("H.265 {} {}x{}", config.profile_name(), config.width(), config.height()),
        Codec::Aac(config) => format!("AAC {} Hz", config.sample_rate()),
        Codec::Opus(_) => "Opus".into(),
        Codec::G711(config) => format!("G.711 {} {} Hz", config.law.name(), config.sample_rate),
    }
}
