//! What can be wrong with the service and the way to it, and the small language that says when.

use std::{str::FromStr, time::Duration};

/// A state of trouble: it lasts for a time, or until it is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `http=STATUS[/NAME]`: every call is answered so.
    Http(Answer),
    /// `put=STATUS[/NAME]`: every PutMedia call is answered so; those under way go on.
    Put(Answer),
    /// `control=STATUS[/NAME]`: every call but PutMedia is answered so.
    Control(Answer),
    /// `blackhole`: nothing is read and nothing answered, on old connections and new ones.
    Blackhole,
    /// `refuse`: new connections are reset.
    Refuse,
    /// `late=MS`: calls are answered so much later.
    Late(u64),
    /// `slow-acks=MS`: acknowledgements come so much later.
    SlowAcks(u64),
    /// `split-acks`: acknowledgements come in pieces of three bytes, and lines between them.
    SplitAcks,
    /// `merged-acks`: acknowledgements wait for one another, and come without anything between them.
    MergedAcks,
    /// `absurd-acks`: beside the right ones there are others: unknown errors, other fragments' numbers, no JSON.
    AbsurdAcks,
    /// `no-persisted`: nothing is ever PERSISTED.
    NoPersisted,
}

/// A status and an error's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 403.
    pub status: u16,
    /// The name, such as `AccessDeniedException`; it may be empty.
    pub name: String,
}

impl Answer {
    /// An answer.
    pub fn new(status: u16, name: &str) -> Self {
        Self { status, name: name.into() }
    }

    /// What the service says when another connection has the stream.
    pub fn connection_limit() -> Self {
        Self::new(400, "ConnectionLimitExceededException")
    }

    /// What it says to credentials that have ended.
    pub fn expired() -> Self {
        Self::new(403, "ExpiredTokenException")
    }
}

/// Something that happens once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `ack=ID`: an error acknowledgement for the fragment under way, on every PutMedia connection.
    Ack(u32),
    /// `reset`: every connection is reset, and what was not PERSISTED by then never is.
    Reset,
    /// `close`: every PutMedia answer ends without a word.
    Close,
    /// `restart`: as `reset`, and credentials given out are unknown, fragments that are never taken too.
    Restart,
    /// `poison=ID`: the next fragment that begins is answered with this error, and so whenever it is sent again.
    Poison(u32),
    /// `next-put=STATUS[/NAME]`: the next PutMedia call is answered so; several wait in line.
    NextPut(Answer),
    /// `expire`: every credential given out ends now.
    Expire,
    /// `clear`: every state ends.
    Clear,
}

/// What happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A state, for a time or, with `None`, until taken back.
    Fault(Fault, Option<Duration>),
    /// An event.
    Event(Event),
}

/// `NAME[=VALUE][@START][+DURATION]`, such as `http=500@60s+1m`, `reset@5s` or `ack=4003`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, since the service was started.
    pub at: Duration,
    /// What.
    pub trouble: Trouble,
}

/// A line that does not parse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{line}`: {what}; write NAME[=VALUE][@START][+DURATION], such as http=500@60s+1m")]
pub struct StepError {
    line: String,
    what: &'static str,
}

impl FromStr for Step {
    type Err = StepError;

    fn from_str(line: &str) -> Result<Self, StepError> {
        parse(line.trim()).map_err(|what| StepError { line: line.to_owned(), what })
    }
}

fn parse(line: &str) -> Result<Step, &'static str> {
    let (before, lasts) = match line.split_once('+') {
        Some((before, lasts)) => (before, Some(crate::fault::duration(lasts)?)),
        None => (line, None),
    };
    let (what, at) = match before.split_once('@') {
        Some((what, at)) => (what, crate::fault::duration(at)?),
        None => (before, Duration::ZERO),
    };
    let (name, value) = what.split_once('=').map_or((what, None), |(name, value)| (name, Some(value)));
    let trouble = match event(name, value)? {
        Some(_) if lasts.is_some() => return Err("this happens once and has no duration"),
        Some(event) => Trouble::Event(event),
        None => Trouble::Fault(fault(name, value)?, lasts),
    };
    Ok(Step { at, trouble })
}

fn event(name: &str, value: Option<&str>) -> Result<Option<Event>, &'static str> {
    Ok(Some(match (name, value) {
        ("ack", Some(id)) => Event::Ack(number(id)?),
        ("poison", Some(id)) => Event::Poison(number(id)?),
        ("reset", None) => Event::Reset,
        ("close", None) => Event::Close,
        ("restart", None) => Event::Restart,
        ("next-put", Some(value)) => Event::NextPut(answer(value)?),
        ("expire", None) => Event::Expire,
        ("clear", None) => Event::Clear,
        _ => return Ok(None),
    }))
}

fn fault(name: &str, value: Option<&str>) -> Result<Fault, &'static str> {
    Ok(match (name, value) {
        ("http", Some(value)) => Fault::Http(answer(value)?),
        ("put", Some(value)) => Fault::Put(answer(value)?),
        ("control", Some(value)) => Fault::Control(answer(value)?),
        ("expired", None) => Fault::Http(Answer::expired()),
        ("connection-limit", None) => Fault::Put(Answer::connection_limit()),
        ("blackhole", None) => Fault::Blackhole,
        ("refuse", None) => Fault::Refuse,
        ("late", Some(ms)) => Fault::Late(number(ms)?),
        ("slow-acks", Some(ms)) => Fault::SlowAcks(number(ms)?),
        ("split-acks", None) => Fault::SplitAcks,
        ("merged-acks", None) => Fault::MergedAcks,
        ("absurd-acks", None) => Fault::AbsurdAcks,
        ("no-persisted", None) => Fault::NoPersisted,
        _ => return Err("no such fault, or it takes a value, or none"),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "not a number")
}

/// `403` or `403/AccessDeniedException`.
fn answer(text: &str) -> Result<Answer, &'static str> {
    let (status, name) = text.split_once('/').unwrap_or((text, ""));
    let status: u16 = number(status)?;
    if !(400..=599).contains(&status) {
        return Err("not a status from 400 to 599");
    }
    Ok(Answer::new(status, name))
}

/// The faults of one moment, merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Condition {
    pub(super) http: Option<Answer>,
    pub(super) put: Option<Answer>,
    pub(super) control: Option<Answer>,
    pub(super) blackhole: bool,
    pub(super) refuse: bool,
    pub(super) late: Duration,
    pub(super) slow_acks: Duration,
    pub(super) split_acks: bool,
    pub(super) merged_acks: bool,
    pub(super) absurd_acks: bool,
    pub(super) no_persisted: bool,
}

impl Condition {
    pub(super) fn with(mut self, fault: &Fault) -> Self {
        match fault {
            Fault::Http(answer) => self.http = Some(answer.clone()),
            Fault::Put(answer) => self.put = Some(answer.clone()),
            Fault::Control(answer) => self.control = Some(answer.clone()),
            Fault::Blackhole => self.blackhole = true,
            Fault::Refuse => self.refuse = true,
            Fault::Late(ms) => self.late = Duration::from_millis(*ms),
            Fault::SlowAcks(ms) => self.slow_acks = Duration::from_millis(*ms),
            Fault::SplitAcks => self.split_acks = true,
            Fault::MergedAcks => self.merged_acks = true,
            Fault::AbsurdAcks => self.absurd_acks = true,
            Fault::NoPersisted => self.no_persisted = true,
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_lines_parse_or_say_why_not() {
        let fault = |fault, secs: Option<u64>| Ok(Trouble::Fault(fault, secs.map(Duration::from_secs)));
        let rows = [
            ("http=500@60s+1m", 60, fault(Fault::Http(Answer::new(500, "")), Some(60))),
            ("connection-limit+9s", 0, fault(Fault::Put(Answer::connection_limit()), Some(9))),
            ("blackhole@5s+90s", 5, fault(Fault::Blackhole, Some(90))),
            ("slow-acks=250", 0, fault(Fault::SlowAcks(250), None)),
            ("ack=4003@7s", 7, Ok(Trouble::Event(Event::Ack(4003)))),
            (
                "next-put=404/ResourceNotFoundException",
                0,
                Ok(Trouble::Event(Event::NextPut(Answer::new(404, "ResourceNotFoundException")))),
            ),
            ("reset+1s", 0, Err("this happens once and has no duration")),
            ("http=200", 0, Err("not a status from 400 to 599")),
            ("poison=x", 0, Err("not a number")),
            ("explode", 0, Err("no such fault, or it takes a value, or none")),
            ("reset@1", 0, Err("a time is a number with a unit, such as 250ms, 5s or 2m")),
        ];
        for (line, at, wanted) in rows {
            let wanted = wanted.map(|trouble| Step { at: Duration::from_secs(at), trouble });
            assert_eq!(parse(line), wanted, "{line}");
        }
    }
}
