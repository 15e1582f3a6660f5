//! What can be wrong with an HLS origin, and the small language that says when.

use std::{str::FromStr, time::Duration};

use tokio::time::Instant;

use crate::fault::duration;

/// A state of trouble: it lasts for a time, or until it is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginFault {
    /// `CODE[=playlists|segments|keys]`: requests are answered with this status.
    Status(u16, Requests),
    /// `refuse`: connections are refused, and those there are reset.
    Refuse,
    /// `frozen`: playlists stay as they were.
    Frozen,
    /// `stall[=playlists|segments|keys]`: answers stop in the middle, for good.
    Stall(Requests),
    /// `slow`: segments come a byte at a time.
    Slow,
    /// `cut`: the connection is reset in the middle of every other segment's answer.
    Cut,
    /// `truncate`: every other segment's answer ends before its announced length.
    Truncate,
    /// `short`: every other segment has lost its second half, and the answer says nothing of it.
    Short,
    /// `html[=playlists|segments|keys]`: a page with status 200 instead of what was asked for.
    Html(Requests),
    /// `close`: the connection is closed after each answer, without a word before.
    Close,
    /// `redirects`: every answer leads to another one, for ever.
    Redirects,
    /// `giant`: playlists go on and on.
    Giant,
    /// `vanish=N`: the variant N, from 0, is gone.
    Vanish(usize),
    /// `gaps`: every third segment is made with EXT-X-GAP, and can't be had.
    Gaps,
    /// `storm`: every segment begins with EXT-X-DISCONTINUITY and a timeline of its own.
    Storm,
}

/// Which requests a fault is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requests {
    /// All.
    #[default]
    All,
    /// Those for playlists, masters too.
    Playlists,
    /// Those for segments, parts and initialisation sections.
    Segments,
    /// Those for keys.
    Keys,
}

/// Something that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginEvent {
    /// `reset`, `reset=same`: the encoder begins anew with the next segment: media sequence numbers from 0, new
    /// timestamps, and new names or those that were used before.
    Reset {
        /// The names of segments come from their numbers, as they did before.
        names_again: bool,
    },
    /// `leap=N`, signed: the media sequence numbers leap, the segments are the same.
    Leap(i64),
    /// `rotate`: from the next segment on another key, if there is encryption.
    Rotate,
    /// `expire=CODE`: the signatures in all URLs expire; until the master playlist is read again the old ones are
    /// answered with this status.
    Expire(u16),
    /// `clear`: every fault ends.
    Clear,
}

/// What happens to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OriginTrouble {
    /// A state, for a time or, with `None`, until taken back.
    Fault(OriginFault, Option<Duration>),
    /// An event.
    Event(OriginEvent),
}

/// A line of an origin's script, `NAME[=VALUE][:DURATION][@START]`: `stall:30s@20s`, `404=segments:5s@1m`, `reset@9s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginLine {
    /// When, since the origin was started.
    pub at: Duration,
    /// What.
    pub trouble: OriginTrouble,
}

/// A script line that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{line}`: {what}; write NAME[=VALUE][:DURATION][@START], such as stall:30s@20s")]
pub struct OriginLineError {
    line: String,
    what: &'static str,
}

impl FromStr for OriginLine {
    type Err = OriginLineError;

    fn from_str(line: &str) -> Result<Self, OriginLineError> {
        parse(line).map_err(|what| OriginLineError { line: line.to_owned(), what })
    }
}

fn parse(line: &str) -> Result<OriginLine, &'static str> {
    let (before, at) = match line.trim().split_once('@') {
        Some((before, at)) => (before, duration(at)?),
        None => (line.trim(), Duration::ZERO),
    };
    let (what, lasts) = match before.split_once(':') {
        Some((what, lasts)) => (what, Some(duration(lasts)?)),
        None => (before, None),
    };
    let (name, value) = what.split_once('=').map_or((what, None), |(name, value)| (name, Some(value)));
    let trouble = match event(name, value)? {
        Some(_) if lasts.is_some() => return Err("this happens once and has no duration"),
        Some(event) => OriginTrouble::Event(event),
        None => OriginTrouble::Fault(fault(name, value)?, lasts),
    };
    Ok(OriginLine { at, trouble })
}

fn event(name: &str, value: Option<&str>) -> Result<Option<OriginEvent>, &'static str> {
    Ok(Some(match (name, value) {
        ("reset", None) => OriginEvent::Reset { names_again: false },
        ("reset", Some("same")) => OriginEvent::Reset { names_again: true },
        ("leap", Some(value)) => OriginEvent::Leap(value.parse().map_err(|_| "the leap is not a number")?),
        ("rotate", None) => OriginEvent::Rotate,
        ("expire", Some(value)) => OriginEvent::Expire(status(value).ok_or("not a status of an error")?),
        ("clear", None) => OriginEvent::Clear,
        _ => return Ok(None),
    }))
}

fn fault(name: &str, value: Option<&str>) -> Result<OriginFault, &'static str> {
    let requests = || match value {
        None => Ok(Requests::All),
        Some("playlists") => Ok(Requests::Playlists),
        Some("segments") => Ok(Requests::Segments),
        Some("keys") => Ok(Requests::Keys),
        Some(_) => Err("it is about `playlists`, `segments` or `keys`"),
    };
    if let Some(code) = status(name) {
        return Ok(OriginFault::Status(code, requests()?));
    }
    Ok(match (name, value) {
        ("refuse", None) => OriginFault::Refuse,
        ("frozen", None) => OriginFault::Frozen,
        ("stall", _) => OriginFault::Stall(requests()?),
        ("slow", None) => OriginFault::Slow,
        ("cut", None) => OriginFault::Cut,
        ("truncate", None) => OriginFault::Truncate,
        ("short", None) => OriginFault::Short,
        ("html", _) => OriginFault::Html(requests()?),
        ("close", None) => OriginFault::Close,
        ("redirects", None) => OriginFault::Redirects,
        ("giant", None) => OriginFault::Giant,
        ("vanish", Some(number)) => OriginFault::Vanish(number.parse().map_err(|_| "not a variant's number")?),
        ("gaps", None) => OriginFault::Gaps,
        ("storm", None) => OriginFault::Storm,
        _ => return Err("no such fault, or it takes a value, or none"),
    })
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|code| (400..600).contains(code))
}

impl OriginFault {
    /// While it lasts, media that is listed can't be had whole, or is not listed.
    fn is_blocking(self) -> bool {
        match self {
            Self::Status(..) | Self::Refuse | Self::Frozen | Self::Stall(_) | Self::Slow | Self::Short => true,
            Self::Html(_) | Self::Redirects | Self::Giant => true,
            Self::Cut | Self::Truncate | Self::Close | Self::Vanish(_) | Self::Gaps | Self::Storm => false,
        }
    }
}

/// The faults of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Condition {
    faults: Vec<OriginFault>,
}

impl Condition {
    pub(crate) fn has(&self, fault: OriginFault) -> bool {
        self.faults.contains(&fault)
    }

    /// Media that is listed can be had.
    pub(crate) fn is_healthy(&self) -> bool {
        !self.faults.iter().any(|fault| fault.is_blocking())
    }

    /// The status to answer such requests with.
    pub(crate) fn status(&self, requests: Requests) -> Option<u16> {
        self.faults.iter().find_map(|fault| match fault {
            OriginFault::Status(code, about) if about.covers(requests) => Some(*code),
            _ => None,
        })
    }

    pub(crate) fn stalls(&self, requests: Requests) -> bool {
        self.faults.iter().any(|fault| matches!(fault, OriginFault::Stall(about) if about.covers(requests)))
    }

    pub(crate) fn is_html(&self, requests: Requests) -> bool {
        self.faults.iter().any(|fault| matches!(fault, OriginFault::Html(about) if about.covers(requests)))
    }
}

impl Requests {
    fn covers(self, requests: Self) -> bool {
        self == Self::All || self == requests
    }
}

/// Faults at once, and events in wait; more are not taken.
const MAX_FAULTS: usize = 64;

/// What is wrong now, and what will be.
#[derive(Debug)]
pub(crate) struct Troubles {
    faults: Vec<(OriginFault, Option<Instant>)>,
    events: Vec<OriginEvent>,
    /// Lines still to come, latest first.
    script: Vec<OriginLine>,
    started: Instant,
}

impl Troubles {
    pub(crate) fn new(mut script: Vec<OriginLine>, started: Instant) -> Self {
        script.sort_by_key(|line| std::cmp::Reverse(line.at));
        Self { faults: Vec::new(), events: Vec::new(), script, started }
    }

    pub(crate) fn happen(&mut self, trouble: OriginTrouble, now: Instant) {
        match trouble {
            OriginTrouble::Fault(fault, lasting) if self.faults.len() < MAX_FAULTS => {
                self.faults.push((fault, lasting.map(|lasting| now + lasting)));
            }
            OriginTrouble::Event(OriginEvent::Clear) => self.faults.clear(),
            OriginTrouble::Event(event) if self.events.len() < MAX_FAULTS => self.events.push(event),
            OriginTrouble::Fault(..) | OriginTrouble::Event(_) => {}
        }
    }

    pub(crate) fn end(&mut self, fault: OriginFault) {
        self.faults.retain(|(active, _)| *active != fault);
    }

    /// What is wrong at `now`, after the lines of the script that are due.
    pub(crate) fn condition(&mut self, now: Instant) -> Condition {
        while let Some(line) = self.script.pop_if(|line| self.started + line.at <= now) {
            self.happen(line.trouble, now);
        }
        self.faults.retain(|(_, until)| until.is_none_or(|until| now < until));
        Condition { faults: self.faults.iter().map(|(fault, _)| *fault).collect() }
    }

    pub(crate) fn take_events(&mut self) -> Vec<OriginEvent> {
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_parse_or_say_why_not() {
        let line = |at, trouble| Ok(OriginLine { at: Duration::from_millis(at), trouble });
        let fault = |fault, secs: Option<u64>| OriginTrouble::Fault(fault, secs.map(Duration::from_secs));
        let rows = [
            ("stall:30s@20s", line(20_000, fault(OriginFault::Stall(Requests::All), Some(30)))),
            ("503:60s@1m", line(60_000, fault(OriginFault::Status(503, Requests::All), Some(60)))),
            ("404=segments:5s", line(0, fault(OriginFault::Status(404, Requests::Segments), Some(5)))),
            ("html=playlists@250ms", line(250, fault(OriginFault::Html(Requests::Playlists), None))),
            ("vanish=1", line(0, fault(OriginFault::Vanish(1), None))),
            ("reset@9s", line(9_000, OriginTrouble::Event(OriginEvent::Reset { names_again: false }))),
            ("leap=-90@9s", line(9_000, OriginTrouble::Event(OriginEvent::Leap(-90)))),
            ("expire=403", line(0, OriginTrouble::Event(OriginEvent::Expire(403)))),
            ("reset:1s", Err("this happens once and has no duration")),
            ("stall=all", Err("it is about `playlists`, `segments` or `keys`")),
            ("200:1s", Err("no such fault, or it takes a value, or none")),
            ("frozen:9", Err("a time is a number with a unit, such as 250ms, 5s or 2m")),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
