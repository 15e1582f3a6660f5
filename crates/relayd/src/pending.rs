//! TEMPORARY stand-ins.
use async_trait::async_trait;
use relay_graph::*;
use relay_media::UtcTime;
pub struct Recording { pub name: String, pub start: UtcTime, pub duration: std::time::Duration, pub bytes: u64, pub finished: bool }
pub fn list(dir: &std::path::Path, stream: &str) -> std::io::Result<Vec<Recording>> {
    let mut v = Vec::new();
    for e in std::fs::read_dir(dir.join(stream))? { let e = e?;
        v.push(Recording { name: e.file_name().to_string_lossy().into_owned(), start: UtcTime::from_unix_nanos(0), duration: std::time::Duration::from_secs(1), bytes: e.metadata()?.len(), finished: true }); }
    Ok(v)
}
#[derive(Debug, thiserror::Error)]
#[error("bad url")]
pub struct SourceUrlError;
pub fn source(url: &str) -> Result<Box<dyn Source>, SourceUrlError> {
    Ok(Box::new(Fake(url.split('@').last().unwrap_or("").to_string())))
}
struct Fake(String);
#[async_trait]
impl Source for Fake {
    fn describe(&self) -> SourceDescription { SourceDescription { kind: "test", url: self.0.clone(), codecs: None, max_buffer_bytes: 0 } }
    async fn run(&self, _: &mut Output, ctx: &SourceContext) -> Result<(), NodeError> { ctx.monitor.connecting(); ctx.shutdown.cancelled().await; Ok(()) }
}
pub fn recorder(_: &crate::config::Record, _: &str) -> Box<dyn Sink> { Box::new(Drain) }
struct Drain;
#[async_trait]
impl Sink for Drain {
    fn describe(&self) -> SinkDescription { SinkDescription { kind: "record", policy: relay_ring::LeakPolicy::Keep, start: relay_ring::Start::Next, max_buffer_bytes: 1000 } }
    async fn run(&self, c: &mut relay_ring::Cursor, ctx: &SinkContext) -> Result<(), NodeError> { let mut b = Vec::new(); while c.next_batch(&mut b, 100).await.is_ok() { ctx.monitor.delivered(b.len() as u64, 0); b.clear(); } Ok(()) }
}
pub const ASSEMBLY: bool = true;
