//! `relay-sim kvs`: the stand-in for Kinesis Video Streams by hand.

use std::{
    io::{self, BufRead as _, Write as _},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use relay_sim::kvs::{Identity, Limits, Second, Service, ServiceConfig, Step, StoredFragment};
use serde_json::json;

use super::{rest, say};

/// `relay-sim kvs`.
#[derive(Args)]
#[command(after_help = "Example: relay-sim kvs --listen 127.0.0.1:4567 --stream yard --fault blackhole@60s+90s")]
pub(crate) struct KvsArgs {
    /// Its address; the control plane's and, without --tls, PutMedia's too.
    #[arg(long, default_value = "127.0.0.1:4567")]
    listen: SocketAddr,
    /// A stream that exists; others are unknown until they are created.
    #[arg(long = "stream", value_name = "NAME")]
    streams: Vec<String>,
    /// What goes wrong and when: `NAME[=VALUE][@START][+DURATION]`, such as `http=500@60s+1m`, `reset@5s` or
    /// `next-put=403/AccessDeniedException`. Such lines on standard input happen at once.
    #[arg(long = "fault", value_name = "LINE")]
    faults: Vec<Step>,
    /// Take PutMedia over TLS, on another port, and write the certificate there: SSL_CERT_FILE of a client.
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// The region that requests must be signed for.
    #[arg(long, default_value = "eu-west-1")]
    region: String,
    /// An access key that is good.
    #[arg(long, default_value = "AKIDSIMULATED")]
    access_key: String,
    /// Its secret.
    #[arg(long, default_value = "simulated-secret")]
    secret_key: String,
    /// From a fragment's RECEIVED to its PERSISTED.
    #[arg(long, default_value = "300ms", value_parser = super::duration)]
    persist_delay: Duration,
    /// A connection on which nothing comes for so long is closed.
    #[arg(long, default_value = "30s", value_parser = super::duration)]
    idle: Duration,
    /// A connection that lasts so long is cut with 4003.
    #[arg(long, default_value = "2700s", value_parser = super::duration)]
    connection_max: Duration,
    /// What becomes of a second connection of a stream.
    #[arg(long, value_enum, default_value = "refused")]
    second: SecondArg,
    /// The hours that streams keep their data.
    #[arg(long, default_value_t = 24)]
    retention_hours: u32,
    /// How long credentials last that are given out, at an address for AWS_CONTAINER_CREDENTIALS_FULL_URI that is printed.
    #[arg(long, default_value = "3600s", value_parser = super::duration)]
    credentials_life: Duration,
    /// Don't tell what happens.
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SecondArg {
    Refused,
    Accepted,
    Replaces,
}

/// How often news are told.
const NEWS: Duration = Duration::from_millis(100);

/// Runs the service until killed; says where its control plane, its data plane and its credentials are. Standard input takes faults; `window`, which begins a measurement; and `report`,
/// which prints a JSON object for each stream and each plain upload, then `done`.
pub(crate) fn serve(args: &KvsArgs) -> anyhow::Result<bool> {
    let identity = args.tls.as_ref().map(|_| Identity::new()).transpose()?;
    if let (Some(path), Some(identity)) = (&args.tls, &identity) {
        std::fs::write(path, identity.pem()).with_context(|| path.display().to_string())?;
    }
    let limits = Limits {
        persist_delay: args.persist_delay,
        idle: args.idle,
        connection_max: args.connection_max,
        second: match args.second {
            SecondArg::Refused => Second::Refused,
            SecondArg::Accepted => Second::Accepted,
            SecondArg::Replaces => Second::Replaces,
        },
        retention_hours: args.retention_hours,
        credentials_life: args.credentials_life,
        ..Limits::default()
    };
    let service = Service::start(ServiceConfig {
        listen: args.listen,
        region: args.region.clone(),
        fixed_key: (args.access_key.clone(), args.secret_key.clone()),
        identity,
        limits,
        script: args.faults.clone(),
        tells: !args.quiet,
        ..ServiceConfig::new(args.streams.clone())
    });
    let service = Arc::new(service.with_context(|| format!("listen on {}", args.listen))?);
    say(&format!("ready {} {} {}", service.url(), service.data_url(), service.credentials_url()))?;
    let told = service.clone();
    std::thread::spawn(move || {
        loop {
            for line in told.news() {
                let _ = say(&line);
            }
            rest(NEWS);
        }
    });
    let mut since = 0;
    for line in io::stdin().lock().lines() {
        match line?.trim() {
            "window" => since = service.utc().unix_nanos(),
            "report" => report(&service, since),
            line => match line.parse::<Step>() {
                Ok(step) => service.happen(step.trouble),
                Err(error) => println!("error: {error}"),
            },
        }
        println!("done");
        io::stdout().flush()?;
    }
    // The end of the input is not the end of the service.
    loop {
        std::thread::park();
    }
}

fn report(service: &Service, since: i64) {
    for stream in service.streams() {
        let fragments: Vec<StoredFragment> =
            service.fragments(&stream).into_iter().filter(|fragment| fragment.received_utc_nanos >= since).collect();
        let back = relay_sim::kvs::ReadBack::of(&fragments, &service.sessions(&stream));
        println!(
            "{}",
            json!({
                "stream": stream,
                "fragments": back.persisted,
                "frames": back.counters.len(),
                "bytes": fragments.iter().map(|fragment| fragment.bytes).sum::<u64>(),
                "lags_ms": back.lags_ms,
                "sessions": back.sessions,
                "wrong": back.wrong(),
            })
        );
    }
    for (name, upload) in service.uploads() {
        println!("{}", json!({"upload": name, "frames": upload.frames, "bytes": upload.bytes}));
    }
}
