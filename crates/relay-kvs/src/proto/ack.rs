//! The acknowledgement stream: JSON objects, split anywhere, one behind the other with or without anything between.
//!
//! Whatever the bytes, the parser neither fails nor holds more than [`ACK_BYTES_MAX`] of them; what is no
//! acknowledgement is counted.

use std::collections::VecDeque;

use serde_json::{Map, Value};

/// The longest acknowledgement read. The service's own producer takes 1024 bytes.
pub const ACK_BYTES_MAX: usize = 4_096;
/// The longest fragment number taken; real ones have 47 digits.
const NUMBER_CHARS_MAX: usize = 128;
/// Acknowledgements held that nobody has polled; more are not read before.
const READY_MAX: usize = 4_096;

/// One acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// What it says.
    pub event: AckEvent,
    /// The fragment's time in milliseconds, as it was sent.
    pub timecode_ms: Option<u64>,
    /// The number that the service gave the fragment.
    pub number: Option<String>,
}

/// What an acknowledgement says of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AckEvent {
    /// Its first byte was seen.
    Buffering,
    /// All of it was seen.
    Received,
    /// It is stored: only now may it be forgotten here.
    Persisted,
    /// It, or the connection, failed with this number.
    Error(u32),
    /// Nothing came for a while.
    Idle,
}

impl AckEvent {
    /// The word for it in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buffering => "buffering",
            Self::Received => "received",
            Self::Persisted => "persisted",
            Self::Error(_) => "error",
            Self::Idle => "idle",
        }
    }
}

/// Reads acknowledgements from pieces of any size.
#[derive(Debug, Default)]
pub struct AckParser {
    object: Vec<u8>,
    depth: u32,
    in_string: bool,
    is_escaped: bool,
    ready: VecDeque<Ack>,
    malformed: u64,
}

impl AckParser {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.take(*byte);
        }
    }

    /// The next acknowledgement.
    pub fn poll(&mut self) -> Option<Ack> {
        self.ready.pop_front()
    }

    /// Objects that were no acknowledgement, or too long for one.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    fn take(&mut self, byte: u8) {
        // Between objects anything goes: newlines, commas, brackets.
        if self.depth == 0 && byte != b'{' {
            return;
        }
        if self.object.len() >= ACK_BYTES_MAX {
            self.malformed += 1;
            self.reset();
            return;
        }
        self.object.push(byte);
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.in_string => self.is_escaped = true,
            b'"' => self.in_string = !self.in_string,
            b'{' if !self.in_string => self.depth += 1,
            b'}' if !self.in_string => self.depth -= 1,
            _ => {}
        }
        if self.depth == 0 {
            match parse(&self.object) {
                Some(ack) if self.ready.len() < READY_MAX => self.ready.push_back(ack),
                _ => self.malformed += 1,
            }
            self.reset();
        }
    }

    fn reset(&mut self) {
        self.object.clear();
        (self.depth, self.in_string, self.is_escaped) = (0, false, false);
    }
}

fn parse(object: &[u8]) -> Option<Ack> {
    let Value::Object(outer) = serde_json::from_slice(object).ok()? else { return None };
    // The documentation wraps it, the service does not.
    let fields = outer.get("Acknowledgement").and_then(Value::as_object).unwrap_or(&outer);
    let event = match fields.get("EventType")?.as_str()? {
        "BUFFERING" => AckEvent::Buffering,
        "RECEIVED" => AckEvent::Received,
        "PERSISTED" => AckEvent::Persisted,
        "ERROR" => AckEvent::Error(number(fields, "ErrorId").and_then(|id| u32::try_from(id).ok()).unwrap_or(0)),
        "IDLE" => AckEvent::Idle,
        _ => return None,
    };
    let name = match fields.get("FragmentNumber") {
        Some(Value::String(name)) => Some(name.clone()),
        Some(Value::Number(name)) => Some(name.to_string()),
        _ => None,
    };
    let name = name.filter(|name| !name.is_empty() && name.len() <= NUMBER_CHARS_MAX);
    Some(Ack { event, timecode_ms: number(fields, "FragmentTimecode"), number: name })
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    match fields.get(name)? {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}
