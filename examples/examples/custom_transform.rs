//! A transform of one's own: only every n-th group of pictures passes, a time-lapse that still decodes.
//! `cargo run -p relay-examples --example custom_transform -- test://pattern?gop=1s`

use std::time::Duration;

use relay_graph::{Clock, Pipeline, Plan, Spec, Stage, StreamSpec, Transform};
use relay_media::{Flags, Kind, Packet};
use relay_nodes::{RecordOptions, RecordSink};

/// Passes one group of pictures in `every`, and no sound.
struct TimeLapse {
    every: u64,
}

impl Transform for TimeLapse {
    fn start(&self) -> Box<dyn Stage> {
        Box::new(Groups { every: self.every, seen: 0 })
    }
}

struct Groups {
    every: u64,
    seen: u64,
}

impl Stage for Groups {
    fn transform(&mut self, mut packet: Packet, out: &mut Vec<Packet>) {
        if packet.track.kind() != Kind::Video {
            return;
        }
        self.seen += u64::from(packet.is_key());
        if self.seen % self.every == 1 {
            if packet.is_key() {
                packet.flags |= Flags::DISCONTINUITY;
            }
            out.push(packet);
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt::init();
    let url = std::env::args().nth(1).unwrap_or_else(|| "test://pattern?gop=1s".into());
    let recorder = RecordSink::new(RecordOptions::new("recordings", "lapse"));
    let stream = StreamSpec::new("lapse", relay_nodes::source(&url)?)
        .transform(TimeLapse { every: 10 })
        .sink("archive", recorder);
    let pipeline = Pipeline::start(Plan::try_new(Spec { streams: vec![stream] })?, &Clock::system());
    tokio::signal::ctrl_c().await?;
    pipeline.stop(Duration::from_secs(5)).await;
    Ok(())
}
