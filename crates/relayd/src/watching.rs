//! What viewers of all streams share: the port that their media goes through, and the places there are.

use anyhow::{Context, anyhow};
use relay_graph::Clock;
use relay_nodes::{Places, Viewers, WebRtcOptions, WebRtcSink};
use relay_webrtc::{Certificate, Port, PortSettings};
use tokio::{runtime::Handle, task::JoinSet};
use tracing::{error, info};

use crate::config::{Config, Viewing, WebRtc};

/// The port, open until dropped.
pub(crate) struct Watching {
    settings: WebRtc,
    port: Port,
    places: Places,
    certificate: Certificate,
    _receiving: JoinSet<()>,
}

const ADVICE: &str = "live viewing needs a UDP and a TCP port of its own: name another with [webrtc] \
    listen = \"0.0.0.0:PORT\" (demo: --media 0.0.0.0:PORT), or say webrtc = false with every stream";

/// A port that failed is listened at again after this.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Watching {
    /// Opens the port and receives on `runtime`; `None` if no stream of `config` may be watched.
    ///
    /// # Errors
    /// When the port is taken, or may not be had.
    pub(crate) fn open(config: &Config, clock: &Clock, runtime: &Handle) -> anyhow::Result<Option<Self>> {
        if config.streams.iter().all(|stream| stream.webrtc.is_none()) {
            return Ok(None);
        }
        let settings = config.webrtc.clone();
        let _entered = runtime.enter();
        let port = Port::bind(PortSettings { listen: settings.listen, advertise: settings.advertise.clone() });
        // Not as its context: the cause would be told twice.
        let port = port.map_err(|error| anyhow!("{error}; {ADVICE}"))?;
        match told(&port) {
            addresses if addresses.is_empty() => info!(listen = %port.listen(), "finding out what to tell viewers"),
            addresses => info!(listen = %port.listen(), %addresses, "viewers are told to send here"),
        }
        let mut receiving = JoinSet::new();
        receiving.spawn_on(receive(port.clone(), clock.clone()), runtime);
        let places = Places::new(settings.max_viewers.into());
        let certificate = Certificate::generate().context("the certificate shown to viewers")?;
        Ok(Some(Self { settings, port, places, certificate, _receiving: receiving }))
    }

    /// The sink for a stream's viewers, and what lets them in.
    pub(crate) fn sink(&self, viewing: &Viewing) -> (WebRtcSink, Viewers) {
        let options = WebRtcOptions {
            max_lag: self.settings.max_lag.0,
            max_viewers: viewing.max_viewers.unwrap_or(self.settings.max_viewers_per_stream).into(),
            places: self.places.clone(),
            certificate: self.certificate.clone(),
        };
        WebRtcSink::new(options, &self.port)
    }

    /// The port.
    pub(crate) fn port(&self) -> &Port {
        &self.port
    }
}

/// Each address once: viewers are told of UDP and TCP there.
fn told(port: &Port) -> String {
    let mut told: Vec<String> = Vec::new();
    for candidate in port.candidates().iter() {
        let address = candidate.address.to_string();
        if !told.contains(&address) {
            told.push(address);
        }
    }
    told.join(", ")
}

async fn receive(port: Port, clock: Clock) {
    loop {
        let failure = port.run().await;
        error!(listen = %port.listen(), "the port for viewers failed and is tried again: {failure}");
        clock.sleep(AGAIN).await;
    }
}
