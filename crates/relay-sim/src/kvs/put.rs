//! A PutMedia call: fragments in, acknowledgements out, both at once.

use std::{collections::BTreeMap, io, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::{
    ingest::{Ingest, Said},
    store::PutEnd,
    talk::{Io, Talk, Woke, date},
    wire::{self, Head, LAST_CHUNK, Piece},
    world::{Order, Session},
};
use crate::locked;

/// Merged acknowledgements are sent at multiples of this.
const MERGE: Duration = Duration::from_millis(700);
/// The bytes of a piece of a split acknowledgement.
const SPLIT: usize = 3;
/// What is read without a look at the pace.
const PACE_BYTES: u64 = 256 << 10;

/// A call that was accepted.
pub(super) struct Put {
    session: Session,
    ingest: Ingest,
    started: Instant,
    /// What is to be said when, in the order of its time.
    due: BTreeMap<(Instant, u64), Ack>,
    acks: u64,
    /// The number of the fragment under way.
    number: String,
    bytes: u64,
    heard: Instant,
    /// How often it was said that nothing came.
    idled: u32,
    is_whole: bool,
    paused_until: Option<Instant>,
    unpaced: u64,
}

struct Ack {
    json: String,
    /// The fragment that is PERSISTED by it.
    persists: Option<String>,
}

impl Put {
    pub(super) fn new(session: Session) -> Self {
        let now = Instant::now();
        Self {
            ingest: Ingest::new(session.limits),
            session,
            started: now,
            due: BTreeMap::new(),
            acks: 0,
            number: String::new(),
            bytes: 0,
            heard: now,
            idled: 0,
            is_whole: false,
            paused_until: None,
            unpaced: 0,
        }
    }

    /// Bytes of the body that were taken.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Runs to the call's end.
    pub(super) async fn run<S: Io>(&mut self, talk: &mut Talk<S>, head: &Head) -> io::Result<PutEnd> {
        let mut body = head.body().map_err(io::Error::other)?;
        if head.get("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
            talk.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        talk.write(&wire::streaming(&date())).await?;
        loop {
            while !self.is_whole && self.paused_until.is_none() {
                let said = match body.take(&mut talk.buffer) {
                    Ok(Piece::Data(data)) => {
                        self.taken(data.len() as u64);
                        self.ingest.push(&data)
                    }
                    Ok(Piece::End) => {
                        self.is_whole = true;
                        self.ingest.finish()
                    }
                    Ok(Piece::Short) => break,
                    Err(error) => return self.fail(talk, 4000, error.to_string()).await,
                };
                if let Some((id, why)) = self.hear(talk, said) {
                    return self.fail(talk, id, why).await;
                }
            }
            if talk.may_speak() {
                self.speak(talk).await?;
                if self.is_whole && self.due.is_empty() {
                    talk.write(LAST_CHUNK).await?;
                    return Ok(PutEnd::Finished);
                }
                if let Some(end) = self.overdue(talk).await? {
                    return Ok(end);
                }
            }
            match talk.wait(Some(self.next()), !self.is_whole && self.paused_until.is_none()).await? {
                Woke::Bytes => {
                    (self.heard, self.idled) = (Instant::now(), 0);
                }
                Woke::Due => self.paused_until = self.paused_until.filter(|until| Instant::now() < *until),
                Woke::Eof => return Ok(PutEnd::Gone),
                Woke::Order(Order::Reset) => return Ok(PutEnd::Reset),
                Woke::Order(Order::Close) => return self.close(talk).await,
                Woke::Order(Order::Ack(id)) => return self.fail(talk, id, "it was told to say so".into()).await,
            }
        }
    }

    /// Keeps the pace of the service.
    fn taken(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.unpaced += bytes;
        if self.unpaced >= PACE_BYTES {
            let nanos = self.unpaced.saturating_mul(1_000_000_000) / self.session.limits.bytes_per_second.max(1);
            self.paused_until = Some(Instant::now() + Duration::from_nanos(nanos));
            self.unpaced = 0;
        }
    }

    /// Acknowledges what the bytes came to; returns the error that ends it, if there is one.
    fn hear<S: Io>(&mut self, talk: &Talk<S>, said: Vec<Said>) -> Option<(u32, String)> {
        for said in said {
            match said {
                Said::Began { timecode_ms } => {
                    self.number = locked(&talk.shared.world).began(&self.session, timecode_ms);
                    self.ack(talk, "BUFFERING", timecode_ms, Duration::ZERO);
                }
                Said::Whole(media) => {
                    let timecode_ms = media.timecode_ms;
                    let received = locked(&talk.shared.world).received(&self.session, &self.number, *media);
                    if let Err(id) = received {
                        return Some((id, "it is one that is never taken".into()));
                    }
                    self.ack(talk, "RECEIVED", timecode_ms, Duration::ZERO);
                    let delay = self.session.limits.persist_delay;
                    self.ack(talk, "PERSISTED", timecode_ms, delay);
                }
                Said::Wrong { id, why } => return Some((id, why)),
            }
        }
        None
    }

    fn ack<S: Io>(&mut self, talk: &Talk<S>, event: &str, timecode_ms: u64, after: Duration) {
        let condition = locked(&talk.shared.world).condition().clone();
        let is_kept = self.session.limits.retention_hours > 0;
        let is_last = event == if is_kept { "PERSISTED" } else { "RECEIVED" };
        if event == "PERSISTED" && (!is_kept || condition.no_persisted) {
            return;
        }
        let number = self.number.clone();
        let said = json!({"EventType": event, "FragmentTimecode": timecode_ms, "FragmentNumber": number});
        let mut at = Instant::now() + after + condition.slow_acks;
        if condition.merged_acks {
            let since = at.saturating_duration_since(self.started);
            let turns = u32::try_from(since.as_nanos() / MERGE.as_nanos()).unwrap_or(u32::MAX);
            at = self.started + MERGE * (turns + 1);
        }
        self.plan(at, Ack { json: said.to_string(), persists: is_last.then_some(number.clone()) });
        // Behind the right one: who was told nothing of a fragment yet must believe what comes first.
        if condition.absurd_acks {
            for json in absurd(timecode_ms, &number) {
                self.plan(at, Ack { json, persists: None });
            }
        }
    }

    fn plan(&mut self, at: Instant, ack: Ack) {
        self.acks += 1;
        self.due.insert((at, self.acks), ack);
    }

    /// Says what is due.
    async fn speak<S: Io>(&mut self, talk: &mut Talk<S>) -> io::Result<()> {
        let now = Instant::now();
        let condition = locked(&talk.shared.world).condition().clone();
        let (mut bytes, mut merged) = (Vec::new(), Vec::new());
        while let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now) {
            let ack = entry.remove();
            if let Some(number) = ack.persists {
                locked(&talk.shared.world).persisted(&self.session, &number);
            }
            if condition.split_acks {
                let json = format!("\r\n{}\n", ack.json);
                json.as_bytes().chunks(SPLIT).for_each(|piece| bytes.extend(wire::chunk(piece)));
            } else if condition.merged_acks {
                merged.extend_from_slice(ack.json.as_bytes());
            } else {
                bytes.extend(wire::chunk(ack.json.as_bytes()));
            }
        }
        if !merged.is_empty() {
            bytes.extend(wire::chunk(&merged));
        }
        if bytes.is_empty() { Ok(()) } else { talk.write(&bytes).await }
    }

    /// What ends the call by the clock.
    async fn overdue<S: Io>(&mut self, talk: &mut Talk<S>) -> io::Result<Option<PutEnd>> {
        let now = Instant::now();
        if now >= self.started + self.session.limits.connection_max {
            return self.fail(talk, 4003, "it lasted too long".into()).await.map(Some);
        }
        if self.session.ends.is_some_and(|ends| now >= ends) || now >= self.heard + self.session.limits.idle {
            return self.close(talk).await.map(Some);
        }
        if !self.is_whole && now >= self.idle_at() {
            self.idled += 1;
            talk.write(&wire::chunk(br#"{"EventType":"IDLE"}"#)).await?;
        }
        Ok(None)
    }

    /// Three times until the idle limit, the last of which is that.
    fn idle_at(&self) -> Instant {
        self.heard + self.session.limits.idle * (self.idled + 1) / 3
    }

    /// When there is something to do.
    fn next(&self) -> Instant {
        let most = self.started + self.session.limits.connection_max;
        let acks = self.due.keys().next().map(|(at, _)| *at);
        let idle = (!self.is_whole).then(|| self.idle_at());
        [acks, self.session.ends, self.paused_until, idle].into_iter().flatten().fold(most, Instant::min)
    }

    /// Ends it with an error acknowledgement; what was not PERSISTED by then never is.
    async fn fail<S: Io>(&mut self, talk: &mut Talk<S>, id: u32, why: String) -> io::Result<PutEnd> {
        let ack = json!({
            "EventType": "ERROR",
            "FragmentTimecode": self.ingest.timecode_ms(),
            "FragmentNumber": self.number,
            "ErrorId": id,
            "ErrorCode": code(id),
        });
        let mut bytes = wire::chunk(ack.to_string().as_bytes());
        bytes.extend_from_slice(LAST_CHUNK);
        talk.write(&bytes).await?;
        Ok(PutEnd::Error(id, why))
    }

    async fn close<S: Io>(&mut self, talk: &mut Talk<S>) -> io::Result<PutEnd> {
        talk.write(LAST_CHUNK).await?;
        Ok(PutEnd::Closed)
    }
}

/// Acknowledgements that no client should believe.
fn absurd(timecode_ms: u64, number: &str) -> [String; 5] {
    let later = timecode_ms + 60_000;
    [
        json!({"EventType": "PERSISTED", "FragmentTimecode": later, "FragmentNumber": number}).to_string(),
        json!({"EventType": "PERSISTED", "FragmentTimecode": timecode_ms, "FragmentNumber": "17"}).to_string(),
        json!({"EventType": ["PERSISTED", {"a": "}\"{"}], "FragmentTimecode": -1}).to_string(),
        json!({"EventType": "CONGRATULATIONS", "FragmentTimecode": 1.5e300}).to_string(),
        r#"]"garbage\ "#.replace('"', ""),
    ]
}

/// The name of an error, where it was ever seen.
fn code(id: u32) -> &'static str {
    match id {
        4000 => "STREAM_READ_ERROR",
        4001 => "MAX_FRAGMENT_SIZE_REACHED",
        4002 => "MAX_FRAGMENT_DURATION_REACHED",
        4003 => "MAX_CONNECTION_DURATION_REACHED",
        4004 => "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS",
        4005 => "MORE_THAN_ONE_TRACK_FOUND",
        4006 => "INVALID_MKV_DATA",
        4007 => "INVALID_PRODUCER_TIMESTAMP",
        4008 => "STREAM_NOT_ACTIVE",
        4500 => "KMS_KEY_ACCESS_DENIED",
        5000 => "INTERNAL_ERROR",
        5001 => "ARCHIVAL_ERROR",
        _ => "OTHER",
    }
}
