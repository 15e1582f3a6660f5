//! The running state of a source: from the planner's wishes to packets in the ring.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use relay_graph::{NodeError, Output, SourceContext};
use relay_hls::{
    Demuxer, Fetcher, HttpOptions,
    proto::{self, Event, Planner, Rendition, Room, What, reason},
};
use tracing::debug;

use super::{HlsOptions, health::Health, pace::PaceBuffer, timeline::Timeline};

/// How often the state is looked at.
const TICK: Duration = Duration::from_millis(250);
/// When packets are let out, in nanoseconds: while somebody watches, a picture at a time.
const GRID_WATCHED: i64 = 40_000_000;
/// And while packets go to recorders only, which wake once a fragment.
const GRID: i64 = 200_000_000;
/// A token is no longer than this.
const TOKEN_MAX: usize = 16 << 10;

pub(super) struct Pull<'a> {
    options: &'a HlsOptions,
    ctx: &'a SourceContext,
    planner: Planner,
    fetcher: Fetcher,
    demuxer: Demuxer,
    timeline: Timeline,
    buffer: PaceBuffer,
    health: Health<'a>,
    room: Room,
    look_at: Instant,
    is_behind: bool,
    /// How long reading was held back in all: the planner's clock stands still then.
    held: Duration,
    held_since: Option<Instant>,
    /// Units since the segment of the main rendition began.
    units: u64,
    announced: usize,
}

impl<'a> Pull<'a> {
    pub(super) fn new(options: &'a HlsOptions, ctx: &'a SourceContext) -> Result<Self, NodeError> {
        let now = ctx.clock.now();
        let health = Health::new(ctx, options);
        let read = |reason, path: &Path, error: &io::Error| {
            NodeError::new(reason, format!("{} can't be used: {error}", path.display()))
        };
        let mut http = HttpOptions { headers: options.headers.clone(), ..HttpOptions::default() };
        if let Some(path) = &options.bearer_file {
            http.bearer = Some(token(path).map_err(|error| read("token_file", path, &error))?);
        }
        if let Some(path) = &options.ca_file {
            http.extra_roots.push(fs::read(path).map_err(|error| read("ca_file", path, &error))?);
        }
        let fetcher = Fetcher::new(&options.url, http).map_err(|error| NodeError::new("http_client", error))?;
        let planned = proto::Options {
            variant: options.variant,
            live_edge: options.live_edge,
            max_behind: options.max_behind,
            low_latency: options.low_latency,
            stall_timeout: options.stall_timeout,
            wait_initial: options.reconnect.initial,
            wait_max: options.reconnect.max,
            seed: fastrand::u64(..),
        };
        Ok(Self {
            options,
            ctx,
            planner: Planner::new(now, options.url.clone(), planned),
            fetcher,
            demuxer: Demuxer::default(),
            timeline: Timeline::new(now),
            buffer: PaceBuffer::new(options.pace, options.buffer_bytes),
            health,
            room: Room::Free,
            look_at: now,
            is_behind: false,
            held: Duration::ZERO,
            held_since: None,
            units: 0,
            announced: 0,
        })
    }

    /// Does all that is to be done now; says when there is more.
    pub(super) fn advance(&mut self, out: &mut Output) -> Instant {
        let now = self.ctx.clock.now();
        self.carry_out(now);
        self.let_out(now, out);
        self.make_room(now);
        self.carry_out(now);
        if now >= self.look_at {
            self.look_at = now + TICK;
            self.health.learn(self.planner.target_duration());
            self.health.look(now);
            self.measure(now);
        }
        let planned = self.planner.poll_timeout().filter(|_| self.held_since.is_none()).map(|at| at + self.held);
        let wake = [planned, self.buffer.due()].into_iter().flatten().fold(self.look_at, Instant::min);
        self.together(now, wake, if out.is_awaited() { GRID_WATCHED } else { GRID })
    }

    /// The moment of a grid, which all streams share, at or after `wake`: they wake together, which costs one look at
    /// the sockets for all of them.
    fn together(&self, now: Instant, wake: Instant, grid: i64) -> Instant {
        let ahead = i64::try_from(wake.saturating_duration_since(now).as_nanos()).unwrap_or(0);
        let late = self.ctx.clock.utc().plus_nanos(ahead).unix_nanos().rem_euclid(grid);
        wake.max(now) + Duration::from_nanos(if late == 0 { 0 } else { (grid - late).unsigned_abs() })
    }

    /// Hears what came for a request. Never, while the buffer can take no more.
    pub(super) async fn hear(&mut self) {
        if self.held_since.is_some() {
            std::future::pending::<()>().await;
        }
        let (id, answer) = self.fetcher.next().await;
        let now = self.planned(self.ctx.clock.now());
        self.planner.handle_input(now, id, answer);
    }

    /// Nothing came until then.
    pub(super) fn time_out(&mut self) {
        let now = self.ctx.clock.now();
        let planned = self.planned(now);
        if self.held_since.is_none() && self.planner.poll_timeout().is_some_and(|at| at <= planned) {
            self.planner.handle_timeout(planned);
        }
    }

    /// Lets out all that is left: the source stops.
    pub(super) fn flush(&mut self, out: &mut Output) {
        let now = self.ctx.clock.now();
        while let Some(mut packet) = self.buffer.take() {
            packet.arrival = now;
            out.push(packet);
        }
    }

    /// The planner's time: without the moments in which nobody listened to the origin for want of room.
    fn planned(&self, now: Instant) -> Instant {
        now.checked_sub(self.held).unwrap_or(now)
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(output) = self.planner.poll_output() {
            match output {
                proto::Output::Fetch(fetch) => {
                    self.health.asking(fetch.what);
                    self.fetcher.start(&fetch);
                }
                proto::Output::Cancel(id) => self.fetcher.cancel(id),
                proto::Output::Event(event) => self.take(&event, now),
            }
        }
    }

    fn take(&mut self, event: &Event, now: Instant) {
        match event {
            Event::Begin(begin) => {
                self.timeline.begin(begin, self.planner.has_audio_rendition(), now);
                self.units = 0;
            }
            Event::Bytes { .. } => {}
            Event::End { rendition, whole } => {
                debug!(?rendition, whole, "a segment ends");
            }
            Event::Gap { rendition, cause, duration } => {
                self.timeline.missing(*rendition, *duration);
                self.health.gap(cause, now);
            }
            Event::Failed(failure) => {
                let next_try = failure.next_try + self.held;
                self.health.failed(&proto::Failure { next_try, ..failure.clone() }, now);
                if matches!(failure.cause.reason, reason::HTTP_401 | reason::HTTP_403) && failure.what != What::Key {
                    self.renew_token();
                }
            }
            Event::Stalled { rendition, cause } => self.health.stalled(*rendition, cause, now),
            Event::Notice { cause, .. } => self.health.note(cause.reason, &cause.text, now),
            Event::Ended => {
                self.health.ended(now);
                self.planner.watch(self.planned(now));
            }
        }
        if let Err(cause) = self.demuxer.handle(event) {
            self.health.stalled(rendition(event), &cause, now);
        }
        self.collect(now);
        if let Event::End { rendition: Rendition::Main, whole: true } = event
            && self.units == 0
        {
            self.nothing_came(now);
        }
    }

    /// Makes packets of what the demultiplexer has ready.
    fn collect(&mut self, now: Instant) {
        while let Some(unit) = self.demuxer.poll() {
            let is_main = unit.rendition == Rendition::Main;
            let Some(packet) = self.timeline.place(unit, now, &self.ctx.clock) else { continue };
            if is_main {
                self.units += 1;
                self.health.fed();
            }
            self.buffer.push(packet, now);
        }
        for jump in self.timeline.take_jumps() {
            self.ctx.monitor.quirk(jump, 1);
        }
    }

    /// A whole segment brought nothing: says so if nothing in it could be carried.
    fn nothing_came(&mut self, now: Instant) {
        let streams = self.demuxer.streams();
        if streams.iter().any(|(.., is_carried)| *is_carried) {
            return;
        }
        let streams: Vec<_> = streams.into_iter().map(|(_, _, name, _)| name).collect();
        let streams = if streams.is_empty() { "no stream at all".to_owned() } else { streams.join(", ") };
        let text = format!("nothing in the segment can be carried: {streams}");
        let cause = proto::Cause { reason: reason::BAD_MEDIA, text, class: proto::Class::Cheap };
        self.health.stalled(Rendition::Main, &cause, now);
    }

    fn let_out(&mut self, now: Instant, out: &mut Output) {
        self.buffer.set_behind(now, self.is_behind);
        while let Some(mut packet) = self.buffer.pop(now) {
            packet.arrival = now;
            self.announce();
            self.health.flows(&packet);
            out.push(packet);
        }
    }

    /// Tells how many tracks are to be expected, so that a recorder doesn't wait for sound that isn't there.
    fn announce(&mut self) {
        if self.announced > 0 {
            return;
        }
        let carried: Vec<_> = self.demuxer.streams().into_iter().filter(|(.., is_carried)| *is_carried).collect();
        let is_audio = |name: &str| matches!(name, "aac" | "opus" | "Opus" | "mp4a");
        let has_audio =
            self.planner.has_audio_rendition() || carried.iter().any(|(.., name, _)| is_audio(name.as_str()));
        let has_video = carried.iter().any(|(.., name, _)| !is_audio(name.as_str()));
        self.announced = usize::from(has_audio) + usize::from(has_video);
        self.ctx.monitor.announce(self.announced);
    }

    /// Whether another segment may be begun, and whether bytes may come.
    fn make_room(&mut self, now: Instant) {
        let target = self.planner.target_duration().unwrap_or(TICK);
        let depth = self.buffer.depth(now);
        let is_heavy = self.buffer.is_heavy();
        match (is_heavy, self.held_since) {
            (true, None) => self.held_since = Some(now),
            (false, Some(since)) => {
                self.held += now.saturating_duration_since(since);
                self.held_since = None;
            }
            _ => {}
        }
        let is_full = is_heavy || depth >= self.options.buffer_time.unwrap_or(target * 3);
        let room = if is_full { Room::Full } else { Room::Free };
        if room != self.room && self.held_since.is_none() {
            self.room = room;
            self.planner.set_room(self.planned(now), room);
        }
    }

    /// How far behind the live edge we are.
    fn measure(&mut self, now: Instant) {
        let edge = self.planner.live_edge().filter(|_| self.planner.is_live() == Some(true));
        let Some((edge, pending)) = edge.zip(self.planner.pending()) else {
            self.is_behind = false;
            return;
        };
        let behind = self.buffer.depth(now).saturating_add(pending);
        let target = self.planner.target_duration().unwrap_or_default();
        // A segment comes at once and is played for its time: up to half of one more than usual is waiting at times.
        self.is_behind = behind > if self.is_behind { edge } else { edge.saturating_add(target / 2) };
    }

    fn renew_token(&mut self) {
        if let Some(token) = self.options.bearer_file.as_deref().and_then(|path| token(path).ok()) {
            self.fetcher.set_bearer(token);
        }
    }
}

/// Whose an event is, of those that carry media.
fn rendition(event: &Event) -> Rendition {
    match event {
        Event::Begin(begin) => begin.rendition,
        Event::Bytes { rendition, .. } | Event::End { rendition, .. } => *rendition,
        _ => Rendition::Main,
    }
}

/// The first line of a file.
fn token(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_MAX || token.chars().any(char::is_control) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it holds no token, or more than one"));
    }
    Ok(token.to_owned())
}
