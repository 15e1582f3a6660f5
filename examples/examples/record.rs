//! A stream from a URL into a recorder: `cargo run -p relay-examples --example record -- test://pattern`.

use std::time::Duration;

use relay_graph::{Clock, Pipeline, Plan, Spec, StreamSpec};
use relay_nodes::{RecordOptions, RecordSink};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "test://pattern".into());
    let recorder = RecordSink::new(RecordOptions::new("recordings", "front"));
    let stream = StreamSpec::new("front", relay_nodes::source(&url)?).sink("archive", recorder);
    let pipeline = Pipeline::start(Plan::try_new(Spec { streams: vec![stream] })?, &Clock::system());
    tokio::signal::ctrl_c().await?;
    pipeline.stop(Duration::from_secs(5)).await;
    Ok(())
}
