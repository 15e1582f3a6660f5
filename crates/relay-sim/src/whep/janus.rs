//! The HTTP API of Janus (<https://janus.conf.meetecho.com/docs/rest.html>), as much as its streaming plugin needs: one
//! session, one handle a viewer.

use serde_json::{Value, json};

use super::{
    JoinError,
    http::{Url, request},
};

/// A session with a Janus server.
#[derive(Debug)]
pub(crate) struct Janus {
    session: Url,
    mountpoint: u64,
    requests: u64,
}

/// One viewer's handle on the plugin.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) url: Url,
    id: u64,
}

/// Events of other viewers that come before the one that is waited for.
const MAX_OTHER_EVENTS: usize = 1_000;
/// Where an event has its session description.
const SDP: &str = "/jsep/sdp";

impl Janus {
    pub(crate) fn open(url: &Url, mountpoint: u64) -> Result<Self, JoinError> {
        let answer = ask(url, &json!({"janus": "create", "transaction": "create"}))?;
        let session = url.below(&id(&answer)?.to_string());
        Ok(Self { session, mountpoint, requests: 0 })
    }

    /// A new viewer.
    pub(crate) fn attach(&mut self) -> Result<Handle, JoinError> {
        let mut attach = self.request("attach");
        if let Some(members) = attach.as_object_mut() {
            members.insert("plugin".into(), "janus.plugin.streaming".into());
        }
        let id = id(&ask(&self.session, &attach)?)?;
        Ok(Handle { url: self.session.below(&id.to_string()), id })
    }

    /// Asks for the stream; returns the offer.
    pub(crate) fn watch(&mut self, handle: &Handle) -> Result<String, JoinError> {
        let body = json!({"request": "watch", "id": self.mountpoint});
        self.message(handle, body, None)?;
        let event = self.event(handle, |event| event.pointer(SDP).is_some())?;
        Ok(event.pointer(SDP).and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Answers the offer. Janus sends once the connection is up.
    pub(crate) fn start(&mut self, handle: &Handle, answer: &str) -> Result<(), JoinError> {
        let jsep = json!({"type": "answer", "sdp": answer});
        self.message(handle, json!({"request": "start"}), Some(jsep))
    }

    pub(crate) fn detach(handle: &Url) -> Result<(), JoinError> {
        ask(handle, &json!({"janus": "detach", "transaction": "detach"})).map(drop)
    }

    fn message(&mut self, handle: &Handle, body: Value, jsep: Option<Value>) -> Result<(), JoinError> {
        let mut message = self.request("message");
        if let Some(members) = message.as_object_mut() {
            members.insert("body".into(), body);
            members.extend(jsep.map(|jsep| ("jsep".to_owned(), jsep)));
        }
        ask(&handle.url, &message).map(drop)
    }

    fn request(&mut self, kind: &str) -> Value {
        self.requests += 1;
        json!({"janus": kind, "transaction": format!("request {}", self.requests)})
    }

    /// Polls the session until there is an event of this handle that `is_it`.
    fn event(&self, handle: &Handle, is_it: impl Fn(&Value) -> bool) -> Result<Value, JoinError> {
        for _ in 0..MAX_OTHER_EVENTS {
            let response = request("GET", &self.session, &[], "")?;
            let event: Value = serde_json::from_str(&response.body).map_err(|_| said(&response.body))?;
            if event.pointer("/sender").and_then(Value::as_u64) != Some(handle.id) {
                continue;
            }
            if event.pointer("/plugindata/data/error").is_some() {
                return Err(said(&response.body));
            }
            if is_it(&event) {
                return Ok(event);
            }
        }
        Err(said("nothing about the viewer"))
    }
}

fn ask(url: &Url, body: &Value) -> Result<Value, JoinError> {
    let response = request("POST", url, &[("Content-Type", "application/json")], &body.to_string())?;
    let answer: Value = serde_json::from_str(&response.body).map_err(|_| said(&response.body))?;
    match answer.get("janus").and_then(Value::as_str) {
        Some("success" | "ack") => Ok(answer),
        _ => Err(said(&response.body)),
    }
}

fn id(answer: &Value) -> Result<u64, JoinError> {
    answer.pointer("/data/id").and_then(Value::as_u64).ok_or_else(|| said(&answer.to_string()))
}

fn said(text: &str) -> JoinError {
    JoinError::Janus(text.split_whitespace().collect::<Vec<_>>().join(" "))
}
