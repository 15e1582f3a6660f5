//! A relayd that sends to stand-ins for Kinesis Video Streams, and is recorded beside that: the recorder reads the same
//! ring, so what it has is what the service must have.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use relay_sim::kvs::{Identity, Service};
use serde_json::Value;

use crate::process::wait_for;
use crate::recordings::Recorded;
use crate::relayd::{Relayd, segments};

/// The fixed key that [`relay_sim::kvs::ServiceConfig::new`] knows.
const FIXED_KEY: (&str, &str) = ("AKIDSIMULATED", "simulated-secret");

/// One stream: a source, a recorder, and a Kinesis sink.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its name, and that of the Kinesis stream.
    pub name: String,
    /// Its source.
    pub url: String,
    /// The stand-in's control plane.
    pub endpoint: String,
    /// Lines that go into the Kinesis sink.
    pub kvs: String,
}

/// The configuration of these streams, recorded below `dir/recordings`.
///
/// # Errors
/// Never; writing into a string does not fail.
pub fn toml(dir: &Path, streams: &[Stream]) -> anyhow::Result<String> {
    let mut text = String::from("[http]\nlisten = \"127.0.0.1:0\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n");
    for Stream { name, url, endpoint, kvs } in streams {
        let folder = dir.join("recordings");
        writeln!(text, "\n[streams.{name}]\nsource = {url:?}")?;
        writeln!(text, "[streams.{name}.sinks.witness]\ntype = \"record\"\ndir = {folder:?}\nfragment = \"1s\"")?;
        writeln!(text, "[streams.{name}.sinks.cloud]\ntype = \"kvs\"\nstream_name = {name:?}")?;
        writeln!(text, "region = \"eu-west-1\"\nendpoint = {endpoint:?}\n{kvs}")?;
    }
    Ok(text)
}

/// Where credentials come from.
#[derive(Clone, Copy, Debug)]
pub enum Keys<'a> {
    /// From the environment; they last.
    Fixed,
    /// From the service's container endpoint; they end.
    From(&'a Service),
}

/// What relayd must have in its environment so that AWS's standard chain finds these credentials and no others.
/// Something to trust is written into `dir`: the control plane's client wants that, though nothing speaks TLS.
///
/// # Errors
/// When that can't be written.
pub fn environment(dir: &Path, keys: Keys<'_>) -> anyhow::Result<Vec<(&'static str, String)>> {
    let trusted = dir.join("trusted.pem");
    std::fs::create_dir_all(dir)?;
    if !trusted.exists() {
        std::fs::write(&trusted, Identity::new()?.pem())?;
    }
    let mut all = vec![
        ("SSL_CERT_FILE", trusted.display().to_string()),
        ("AWS_EC2_METADATA_DISABLED", "true".into()),
        ("AWS_CONFIG_FILE", "/dev/null".into()),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null".into()),
        ("NO_PROXY", "127.0.0.1,localhost".into()),
    ];
    match keys {
        Keys::Fixed => {
            all.push(("AWS_ACCESS_KEY_ID", FIXED_KEY.0.into()));
            all.push(("AWS_SECRET_ACCESS_KEY", FIXED_KEY.1.into()));
        }
        Keys::From(service) => {
            all.push(("AWS_CONTAINER_CREDENTIALS_FULL_URI", service.credentials_url()));
        }
    }
    Ok(all)
}

/// The counters of the frames that the recorder took from a stream's ring. A file without a whole fragment yet has none.
///
/// # Errors
/// When the folder can't be read.
pub fn witnessed(dir: &Path, stream: &str) -> anyhow::Result<BTreeSet<u64>> {
    let files = segments(dir, stream)?;
    let recorded = files.iter().filter_map(|file| Recorded::of(file).ok());
    Ok(recorded.flat_map(|recorded| recorded.frames).map(|frame| frame.counter).collect())
}

/// Waits until the service has frames of `stream` from `counter` on, PERSISTED.
///
/// # Errors
/// When it has not by the deadline; the message has what relayd says.
pub fn await_stored(
    relayd: &Relayd,
    service: &Service,
    stream: &str,
    counter: u64,
    deadline: Duration,
) -> anyhow::Result<()> {
    let is_there = || newest(service, stream).is_some_and(|newest| newest >= counter).then_some(());
    wait_for(&format!("frame {counter} of {stream} is PERSISTED"), deadline, is_there).map_err(|error| {
        let sink = relayd.streams().ok().and_then(|streams| sink(&streams, stream));
        error.context(format!("{}: {}", sink.unwrap_or_default(), relayd.last_words()))
    })
}

/// The newest frame that is PERSISTED.
#[must_use]
pub fn newest(service: &Service, stream: &str) -> Option<u64> {
    let fragments = service.fragments(stream);
    let persisted = fragments.iter().filter(|fragment| fragment.persisted_utc_nanos.is_some());
    persisted.filter_map(|fragment| fragment.counters.iter().max()).max().copied()
}

/// What the API says of a stream's Kinesis sink.
#[must_use]
pub fn sink(streams: &[Value], stream: &str) -> Option<Value> {
    let stream = streams.iter().find(|one| one["name"] == stream)?;
    stream["sinks"].as_array()?.iter().find(|sink| sink["name"] == "cloud").cloned()
}
