//! TEMPORARY stand-ins.
use async_trait::async_trait;
use relay_graph::*;
pub(crate) fn recorder(_: &crate::config::Record, _: &str) -> Box<dyn Sink> {
    Box::new(Drain)
}
struct Drain;
#[async_trait]
impl Sink for Drain {
    fn describe(&self) -> SinkDescription {
        SinkDescription {
            kind: "record",
            policy: relay_ring::LeakPolicy::Keep,
            start: relay_ring::Start::Next,
            max_buffer_bytes: 1000,
        }
    }
    async fn run(&self, c: &mut relay_ring::Cursor, ctx: &SinkContext) -> Result<(), NodeError> {
        let mut b = Vec::new();
        while c.next_batch(&mut b, 100).await.is_ok() {
            ctx.monitor.delivered(b.len() as u64, 0);
            b.clear();
        }
        Ok(())
    }
}
pub(crate) const ASSEMBLY: bool = true;
