//! A sink of one's own: prints each key frame, its size and how late it came.
//! `cargo run -p relay-examples --example custom_sink -- rtsp://camera/stream`
#![expect(clippy::print_stdout, reason = "that is what it does")]

use std::time::Duration;

use async_trait::async_trait;
use relay_graph::{Clock, NodeError, Pipeline, Plan, Sink, SinkContext, SinkDescription, Spec, StreamSpec};
use relay_ring::{Cursor, LeakPolicy, Start};

struct PrintKeyFrames;

#[async_trait]
impl Sink for PrintKeyFrames {
    fn describe(&self) -> SinkDescription {
        // A viewer: when it lags by more than a second it jumps to a key frame rather than fall further behind.
        let policy = LeakPolicy::Live { max_lag: Duration::from_secs(1) };
        SinkDescription { kind: "print", policy, start: Start::JoinPoint, max_buffer_bytes: 0 }
    }

    async fn run(&self, cursor: &mut Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        let mut batch = Vec::new();
        while cursor.next_batch(&mut batch, 64).await.is_ok() {
            ctx.monitor.running();
            for packet in batch.drain(..) {
                if packet.is_key() {
                    let late = ctx.clock.now().saturating_duration_since(packet.arrival);
                    println!(
                        "key frame at {:?}: {} bytes, {late:?} after it arrived",
                        packet.pts,
                        packet.payload.len()
                    );
                }
                ctx.monitor.delivered(1, packet.payload.len() as u64);
            }
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "test://pattern".into());
    let stream = StreamSpec::new("front", relay_nodes::source(&url)?).sink("print", PrintKeyFrames);
    let pipeline = Pipeline::start(Plan::try_new(Spec { streams: vec![stream] })?, &Clock::system());
    tokio::signal::ctrl_c().await?;
    pipeline.stop(Duration::from_secs(5)).await;
    Ok(())
}
