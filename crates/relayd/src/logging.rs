//! Logs: for people on a terminal, JSON lines otherwise, and without the secrets that are known.

use std::{
    io::{self, IsTerminal, Write},
    sync::Arc,
};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter, prelude::*};

/// What must never be told, whoever logs it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Arc<[String]>);

impl Secrets {
    /// Those of `secrets` that are long enough to be recognised: shorter ones would blot out ordinary words.
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        const RECOGNISED: usize = 4;
        let mut secrets: Vec<String> = secrets.into_iter().filter(|secret| secret.len() >= RECOGNISED).collect();
        // The longest first: one may be part of another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Self(secrets.into())
    }

    /// `text` with each of them replaced by `***`.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Begins to log to standard error. `RUST_LOG` decides what; without it, `verbosity` does (0: info, 1: debug of ours,
/// 2: debug of all, more: all).
pub(crate) fn init(verbosity: u8, secrets: Secrets) {
    let directives = match verbosity {
        // retina tells of each late UDP packet at info, and dumps session descriptions at warn; str0m tells of each
        // step of each viewer at info. The AWS SDK tells of each failed try at warn, headers and all: so do we, shorter.
        0 => "info,retina=error,str0m=error,is=error,dimpl=error,aws=error",
        1 => {
            "info,retina=error,str0m=error,is=error,dimpl=error,aws=error,relayd=debug,relay_graph=debug,\
             relay_nodes=debug,relay_record=debug,relay_rtp=debug,relay_webrtc=debug,relay_kvs=debug"
        }
        // Answers with credentials are never worth a line.
        2 => "debug,aws=warn",
        _ => "trace,aws=warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(directives));
    let registry = tracing_subscriber::registry().with(filter);
    let writer = Redacting { secrets, out: io::stderr };
    // A second call (in tests) changes nothing.
    let _ = if io::stderr().is_terminal() {
        registry.with(tracing_subscriber::fmt::layer().with_target(false).with_writer(writer)).try_init()
    } else {
        registry.with(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer)).try_init()
    };
}

/// Writes whole lines, without secrets.
pub(crate) struct Redacting<W> {
    pub(crate) secrets: Secrets,
    pub(crate) out: W,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Redacting<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { secrets: self.secrets.clone(), out: self.out.make_writer() }
    }
}

/// One line on its way out.
pub(crate) struct Line<W> {
    secrets: Secrets,
    out: W,
}

impl<W: Write> Write for Line<W> {
    /// Events come in one piece: a secret is never cut in two.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.secrets.0.is_empty() {
            return self.out.write(bytes);
        }
        self.out.write_all(self.secrets.hide(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
