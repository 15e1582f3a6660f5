//! The end of a source's segment: inline transforms, counting, and the ring.

use std::sync::Arc;

use relay_media::Packet;
use relay_ring::{CloseReason, Publisher};

use crate::{SourceMonitor, Stage, Transform};

/// Where a source pushes its packets.
pub struct Output {
    publisher: Publisher,
    transforms: Vec<Box<dyn Transform>>,
    stages: Vec<Box<dyn Stage>>,
    monitor: Arc<SourceMonitor>,
    batch: Vec<Packet>,
    next_batch: Vec<Packet>,
}

impl Output {
    /// An output into `publisher` through `transforms`, in order.
    pub fn new(publisher: Publisher, transforms: Vec<Box<dyn Transform>>, monitor: Arc<SourceMonitor>) -> Self {
        let stages = transforms.iter().map(|transform| transform.start()).collect();
        Self { publisher, transforms, stages, monitor, batch: Vec::new(), next_batch: Vec::new() }
    }

    /// Passes `packet` through the transforms into the ring. Never blocks.
    pub fn push(&mut self, packet: Packet) {
        if self.stages.is_empty() {
            self.monitor.pushed(&packet);
            self.publisher.push(Arc::new(packet));
            return;
        }
        self.batch.push(packet);
        for stage in &mut self.stages {
            for packet in self.batch.drain(..) {
                stage.transform(packet, &mut self.next_batch);
            }
            std::mem::swap(&mut self.batch, &mut self.next_batch);
        }
        for packet in self.batch.drain(..) {
            self.monitor.pushed(&packet);
            self.publisher.push(Arc::new(packet));
        }
    }

    /// Key frames asked for so far by sinks, coalesced; a source compares it with what it saw last.
    pub fn key_frame_requests(&self) -> u64 {
        self.publisher.key_frame_requests()
    }

    /// Whether somebody wants each packet as soon as it is there (a viewer); else nobody minds if a source that has a
    /// choice pushes several at a time, which costs less.
    pub fn is_awaited(&self) -> bool {
        self.publisher.is_awaited()
    }

    /// Begins anew after a failed run: the transforms forget what they knew.
    pub(crate) fn restart(&mut self) {
        self.batch.clear();
        self.next_batch.clear();
        self.stages = self.transforms.iter().map(|transform| transform.start()).collect();
    }

    /// Closes the ring; cursors drain what is left.
    pub(crate) fn close(self, reason: CloseReason) {
        self.publisher.close(reason);
    }
}
