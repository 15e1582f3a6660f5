//! What can be wrong with a camera, and the small language that says when.

use std::{fmt, str::FromStr, time::Duration};

/// A state of trouble: it lasts for a time, or until it is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill`: connections are reset, and the camera is gone.
    Kill,
    /// `refuse`: new connections are refused; those there are go on.
    Refuse,
    /// `freeze`: connections stay open and nothing is sent on them, not even answers.
    Freeze,
    /// `answer=CODE`: requests are answered with this status; sessions that play go on.
    Answer(u16),
    /// `garbage`: requests are answered with bytes that are no RTSP.
    Garbage,
    /// `video-dead`: no video; audio and reports go on.
    VideoDead,
    /// `audio-dead`: no audio; video goes on.
    AudioDead,
    /// `no-keys`: key frames are not sent.
    NoKeyFrames,
    /// `frozen-timestamps`: every frame carries the timestamp of the one when this began.
    FrozenTimestamps,
    /// `loss=PERCENT`: this share of the video's RTP packets is not sent, in thousandths.
    Loss(u16),
    /// `reorder=PERCENT`: this share of the video's RTP packets changes places with the next, in thousandths.
    Reorder(u16),
    /// `duplicate=PERCENT`: this share of the video's RTP packets is sent twice, in thousandths.
    Duplicate(u16),
    /// `malformed`: a burst of malformed RTP and NAL units before every frame.
    Malformed,
    /// `udp-silent`: nothing goes out over UDP, as behind a firewall.
    UdpSilent,
    /// `no-sdp-sets`: no parameter sets in the SDP; they come in band.
    NoSdpSets,
    /// `no-sets`: no parameter sets anywhere.
    NoSets,
    /// `endless-sdp`: a DESCRIBE is answered by a description that goes on and on.
    EndlessSdp,
    /// `no-reports`: no RTCP.
    NoReports,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `restart`: connections are reset, timestamps begin anew.
    Restart,
    /// `new-ssrc`: the sessions go on with other SSRCs and sequence numbers.
    NewSsrc,
    /// `reset-timestamps`: the timestamps begin anew at a random value.
    ResetTimestamps,
    /// `jump=MILLISECONDS`, signed: the timestamps jump.
    Jump(i32),
    /// `clip=INDEX`: the camera goes over to another of its clips at its first frame (another resolution).
    Clip(usize),
    /// `clear`: every fault ends.
    Clear,
}

/// What happens to a camera.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A state, for a time or, with `None`, until taken back.
    Fault(Fault, Option<Duration>),
    /// An event.
    Event(Event),
}

/// A step of a camera's script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, since the camera was started.
    pub at: Duration,
    /// What.
    pub trouble: Trouble,
}

/// `CAMERA:NAME[=VALUE][@START][+DURATION]`, such as `3:kill@5s+10s`, `all:loss=2.5@0s`, `0:clip=1@20s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptLine {
    /// The camera, `None` for all.
    pub camera: Option<usize>,
    /// The step.
    pub step: Step,
}

/// A script line that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{line}`: {what}; write CAMERA:NAME[=VALUE][@START][+DURATION], such as 3:kill@5s+10s")]
pub struct ScriptError {
    line: String,
    what: &'static str,
}

impl FromStr for ScriptLine {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Self, ScriptError> {
        parse(line).map_err(|what| ScriptError { line: line.to_owned(), what })
    }
}

fn parse(line: &str) -> Result<ScriptLine, &'static str> {
    let (camera, rest) = line.trim().split_once(':').ok_or("no camera")?;
    let camera = match camera {
        "all" => None,
        number => Some(number.trim_start_matches("cam").parse().map_err(|_| "not a camera's number nor `all`")?),
    };
    let (before, lasts) = match rest.split_once('+') {
        Some((before, lasts)) => (before, Some(duration(lasts)?)),
        None => (rest, None),
    };
    let (what, at) = match before.split_once('@') {
        Some((what, at)) => (what, duration(at)?),
        None => (before, Duration::ZERO),
    };
    let (name, value) = what.split_once('=').map_or((what, None), |(name, value)| (name, Some(value)));
    let trouble = match event(name, value)? {
        Some(_) if lasts.is_some() => return Err("this happens once and has no duration"),
        Some(event) => Trouble::Event(event),
        None => Trouble::Fault(fault(name, value)?, lasts),
    };
    Ok(ScriptLine { camera, step: Step { at, trouble } })
}

fn event(name: &str, value: Option<&str>) -> Result<Option<Event>, &'static str> {
    Ok(Some(match (name, value) {
        ("restart", None) => Event::Restart,
        ("new-ssrc", None) => Event::NewSsrc,
        ("reset-timestamps", None) => Event::ResetTimestamps,
        ("jump", Some(value)) => Event::Jump(value.parse().map_err(|_| "the jump is not a number of milliseconds")?),
        ("clip", Some(value)) => Event::Clip(value.parse().map_err(|_| "not the index of a clip")?),
        ("clear", None) => Event::Clear,
        _ => return Ok(None),
    }))
}

fn fault(name: &str, value: Option<&str>) -> Result<Fault, &'static str> {
    let share = || value.and_then(per_mille).ok_or("not a percentage");
    Ok(match (name, value) {
        ("kill", None) => Fault::Kill,
        ("refuse", None) => Fault::Refuse,
        ("freeze", None) => Fault::Freeze,
        ("answer", Some(code)) => Fault::Answer(code.parse().map_err(|_| "not a status code")?),
        ("garbage", None) => Fault::Garbage,
        ("video-dead", None) => Fault::VideoDead,
        ("audio-dead", None) => Fault::AudioDead,
        ("no-keys", None) => Fault::NoKeyFrames,
        ("frozen-timestamps", None) => Fault::FrozenTimestamps,
        ("loss", _) => Fault::Loss(share()?),
        ("reorder", _) => Fault::Reorder(share()?),
        ("duplicate", _) => Fault::Duplicate(share()?),
        ("malformed", None) => Fault::Malformed,
        ("udp-silent", None) => Fault::UdpSilent,
        ("no-sdp-sets", None) => Fault::NoSdpSets,
        ("no-sets", None) => Fault::NoSets,
        ("endless-sdp", None) => Fault::EndlessSdp,
        ("no-reports", None) => Fault::NoReports,
        _ => return Err("no such fault, or it takes a value, or none"),
    })
}

/// `2`, `2.5` or `2.5%` in thousandths.
fn per_mille(text: &str) -> Option<u16> {
    let (whole, tenths) = text.trim_end_matches('%').split_once('.').unwrap_or((text.trim_end_matches('%'), "0"));
    let tenths: u16 = tenths.parse().ok().filter(|tenths| *tenths <= 9)?;
    whole.parse::<u16>().ok()?.checked_mul(10)?.checked_add(tenths).filter(|share| *share <= 1000)
}

/// `5s`, `250ms`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| "a time is a number with a unit, such as 250ms, 5s or 2m")?;
    match text.get(digits.len()..) {
        Some("ms") => Ok(Duration::from_millis(number)),
        Some("s") => Ok(Duration::from_secs(number)),
        Some("m") => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("a time is a number with a unit, such as 250ms, 5s or 2m"),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// The faults of one moment, merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) killed: bool,
    pub(crate) refused: bool,
    pub(crate) frozen: bool,
    pub(crate) answer: Option<u16>,
    pub(crate) garbage: bool,
    pub(crate) video_dead: bool,
    pub(crate) audio_dead: bool,
    pub(crate) no_keys: bool,
    pub(crate) frozen_timestamps: bool,
    pub(crate) loss: u16,
    pub(crate) reorder: u16,
    pub(crate) duplicate: u16,
    pub(crate) malformed: bool,
    pub(crate) udp_silent: bool,
    pub(crate) no_sdp_sets: bool,
    pub(crate) no_sets: bool,
    pub(crate) endless_sdp: bool,
    pub(crate) no_reports: bool,
}

impl Condition {
    pub(crate) fn with(mut self, fault: Fault) -> Self {
        match fault {
            Fault::Kill => self.killed = true,
            Fault::Refuse => self.refused = true,
            Fault::Freeze => self.frozen = true,
            Fault::Answer(code) => self.answer = Some(code),
            Fault::Garbage => self.garbage = true,
            Fault::VideoDead => self.video_dead = true,
            Fault::AudioDead => self.audio_dead = true,
            Fault::NoKeyFrames => self.no_keys = true,
            Fault::FrozenTimestamps => self.frozen_timestamps = true,
            Fault::Loss(share) => self.loss = share,
            Fault::Reorder(share) => self.reorder = share,
            Fault::Duplicate(share) => self.duplicate = share,
            Fault::Malformed => self.malformed = true,
            Fault::UdpSilent => self.udp_silent = true,
            Fault::NoSdpSets => self.no_sdp_sets = true,
            Fault::NoSets => self.no_sets = true,
            Fault::EndlessSdp => self.endless_sdp = true,
            Fault::NoReports => self.no_reports = true,
        }
        self
    }

    /// Whether packets go out just as the clip has them, but for their headers.
    pub(crate) fn packets_untouched(&self) -> bool {
        self.loss == 0 && self.reorder == 0 && self.duplicate == 0 && !self.malformed && !self.no_sets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_parse_or_say_why_not() {
        let line =
            |camera, at, trouble| Ok(ScriptLine { camera, step: Step { at: Duration::from_millis(at), trouble } });
        let some = |secs| Some(Duration::from_secs(secs));
        let rows = [
            ("3:kill@5s+10s", line(Some(3), 5_000, Trouble::Fault(Fault::Kill, some(10)))),
            ("cam0:freeze", line(Some(0), 0, Trouble::Fault(Fault::Freeze, None))),
            ("0:freeze+2s", line(Some(0), 0, Trouble::Fault(Fault::Freeze, some(2)))),
            ("all:loss=2.5%@250ms", line(None, 250, Trouble::Fault(Fault::Loss(25), None))),
            ("1:answer=401@1m+3s", line(Some(1), 60_000, Trouble::Fault(Fault::Answer(401), some(3)))),
            ("1:clip=2@9s", line(Some(1), 9_000, Trouble::Event(Event::Clip(2)))),
            ("1:jump=-500@9s", line(Some(1), 9_000, Trouble::Event(Event::Jump(-500)))),
            ("1:restart@9s+1s", Err("this happens once and has no duration")),
            ("1:explode@9s", Err("no such fault, or it takes a value, or none")),
            ("1:loss=101@9s", Err("not a percentage")),
            ("1:kill@9", Err("a time is a number with a unit, such as 250ms, 5s or 2m")),
            ("kill@9s", Err("no camera")),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
