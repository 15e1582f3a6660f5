//! One PutMedia call from its preparation to its end: acknowledgements are read while the body is written.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Time,
    body::{FragmentBody, Piece, Signal},
    connect::{Network, connect},
};
use crate::{
    cloud::{Prepared, Stream, chain},
    proto::{Cause, Failure, Refresh, SessionId},
};

/// The answer's head comes within this.
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// A service that has not answered by then waits for the first fragment, perhaps. (Those seen don't.)
const ANSWER_AWAITED: Duration = Duration::from_secs(2);
/// The most bytes read of a refusal.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// A refusal's body comes within this.
const REFUSAL_MAX: Duration = Duration::from_secs(2);
/// Signals of a body that are not looked at yet.
const SIGNALS: usize = 8;

/// What a call tells while it lasts.
#[derive(Debug)]
pub(super) enum Told {
    /// It can be made: how long the credentials last, how wrong our clock is, whether the stream keeps its data.
    Prepared { life: Option<Duration>, skew_seconds: i64, retention: Option<bool> },
    /// It was taken.
    Accepted(Option<Duration>),
    /// Bytes of the body were taken.
    Progress,
    /// A fragment was taken.
    Written,
    /// Bytes of the answer.
    Acks(Bytes),
}

/// What a call is made of.
pub(super) struct Call {
    pub(super) id: SessionId,
    pub(super) start_ms: u64,
    pub(super) refresh: Refresh,
    /// No other call of the stream is under way.
    pub(super) is_alone: bool,
    pub(super) stream: Arc<Stream>,
    pub(super) name: Arc<str>,
    pub(super) network: Network,
    pub(super) time: Arc<dyn Time>,
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) told: mpsc::Sender<(SessionId, Told)>,
}

impl Call {
    /// Makes the call. Ends with it; dropping it drops the connection.
    pub(super) async fn run(self) -> (SessionId, Option<Failure>) {
        let id = self.id;
        (id, Box::pin(self.put()).await.err())
    }

    async fn put(self) -> Result<(), Failure> {
        let prepared = self.stream.prepare(self.time.now(), self.time.utc(), self.refresh).await?;
        let skew_seconds = prepared.skew.seconds();
        self.tell(Told::Prepared { life: prepared.life, skew_seconds, retention: prepared.retention }).await;
        self.exchange(prepared).await.map_err(|failure| failure.during("PutMedia"))
    }

    async fn exchange(self, prepared: Prepared) -> Result<(), Failure> {
        let io = connect(&prepared.endpoint, &self.network).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| broken(&error))?;
        let told = (self.id, self.told.clone());
        let (signals, mut signalled) = mpsc::channel(SIGNALS);
        let talk = self.talk(sender, prepared, signals);
        let signals = async {
            while let Some(signal) = signalled.recv().await {
                let signal = if signal == Signal::Written { Told::Written } else { Told::Progress };
                let _ = told.1.send((told.0, signal)).await;
            }
            // The body is done; the answer may go on.
            std::future::pending::<()>().await;
        };
        tokio::pin!(connection, talk, signals);
        let mut is_connected = true;
        loop {
            // What the body told comes before what the answer says of it.
            tokio::select! {
                biased;
                () = &mut signals => {}
                ended = &mut talk => return ended,
                ended = &mut connection, if is_connected => {
                    is_connected = false;
                    if let Err(error) = ended {
                        // The answer may hold its last words.
                        return timeout(REFUSAL_MAX, talk).await.unwrap_or_else(|_| Err(broken(&error)));
                    }
                }
            }
        }
    }

    async fn talk(
        self,
        mut sender: http1::SendRequest<FragmentBody>,
        prepared: Prepared,
        signals: mpsc::Sender<Signal>,
    ) -> Result<(), Failure> {
        let invalid = |error: &dyn std::error::Error| Failure::new(Cause::Invalid, chain(error));
        let head = prepared.head(&self.name, self.start_ms, self.time.utc()).map_err(|error| invalid(&error))?;
        let (id, told) = (self.id, self.told.clone());
        let body = FragmentBody::new(self.pieces, signals);
        let answer = sender.send_request(head.map(|()| body));
        tokio::pin!(answer);
        let sent: Instant = self.time.now().into();
        let answer = tokio::select! {
            answer = &mut answer => answer,
            () = sleep_until(sent + ANSWER_AWAITED) => {
                // Beside another one it must be taken first, or that one would end for nothing.
                if self.is_alone {
                    let _ = told.send((id, Told::Accepted(prepared.life))).await;
                }
                let late = |_| Failure::new(Cause::NoAnswer, "to the request");
                tokio::time::timeout_at(sent + ANSWER_MAX, answer).await.map_err(late)?
            }
        };
        let answer = answer.map_err(|error| broken(&error))?;
        if let Some(date) = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok()) {
            self.stream.learn(date, self.time.utc()).await;
        }
        if answer.status() != StatusCode::OK {
            return Err(refusal(answer).await);
        }
        let _ = told.send((id, Told::Accepted(prepared.life))).await;
        let mut acks = answer.into_body();
        while let Some(frame) = acks.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            if let Ok(bytes) = frame.into_data() {
                let _ = told.send((id, Told::Acks(bytes))).await;
            }
        }
        Ok(())
    }

    async fn tell(&self, told: Told) {
        let _ = self.told.send((self.id, told)).await;
    }
}

async fn refusal(answer: Response<Incoming>) -> Failure {
    let status = answer.status().as_u16();
    let names = ["x-amzn-errortype", "x-amz-errortype"];
    let name = names.iter().find_map(|name| answer.headers().get(*name)?.to_str().ok()).map(str::to_owned);
    let body = timeout(REFUSAL_MAX, Limited::new(answer.into_body(), REFUSAL_BYTES_MAX).collect()).await;
    let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let field = |names: [&str; 2]| names.iter().find_map(|name| json.get(*name)?.as_str()).unwrap_or_default();
    let name = name.unwrap_or_else(|| field(["__type", "code"]).to_owned());
    Failure::refused(status, &name, field(["message", "Message"]))
}

fn broken(error: &hyper::Error) -> Failure {
    let cause = if error.is_incomplete_message() || error.is_canceled() { Cause::Ended } else { Cause::Reset };
    Failure::new(cause, chain(error))
}
