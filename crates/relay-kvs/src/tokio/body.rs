//! A request's body that is written while it is made.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;

/// Pieces smaller than this are copied together: a chunk of HTTP each would cost more.
const SMALL: usize = 4 << 10;
/// A chunk of pieces that were copied together is at most this long.
const CHUNK: usize = 32 << 10;
/// Signals kept free for [`Signal::Written`], of which one at most is on its way.
const RESERVED: usize = 2;

/// What goes into a body.
#[derive(Debug)]
pub(super) enum Piece {
    /// What it begins with.
    Begin(Bytes),
    /// A whole fragment.
    Fragment(Vec<Bytes>),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Bytes were taken.
    Progress,
    /// The last bytes of a fragment were taken.
    Written,
}

/// The body; ends when its sender is dropped.
#[derive(Debug)]
pub(super) struct FragmentBody {
    pieces: mpsc::Receiver<Piece>,
    signals: mpsc::Sender<Signal>,
    chunks: VecDeque<Bytes>,
    is_fragment: bool,
}

impl FragmentBody {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>, signals: mpsc::Sender<Signal>) -> Self {
        Self { pieces, signals, chunks: VecDeque::new(), is_fragment: false }
    }
}

impl Body for FragmentBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        loop {
            if let Some(chunk) = body.chunks.pop_front() {
                // Told before the bytes can reach anybody, so that no acknowledgement overtakes it.
                if body.chunks.is_empty() && body.is_fragment {
                    let _ = body.signals.try_send(Signal::Written);
                } else if body.signals.capacity() > RESERVED {
                    let _ = body.signals.try_send(Signal::Progress);
                }
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            match body.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Piece::Begin(bytes))) => {
                    body.is_fragment = false;
                    body.chunks.push_back(bytes);
                }
                Poll::Ready(Some(Piece::Fragment(pieces))) => {
                    body.is_fragment = true;
                    body.chunks = chunks(pieces);
                }
            }
        }
    }
}

/// Copies small pieces together; large ones are not copied.
fn chunks(pieces: Vec<Bytes>) -> VecDeque<Bytes> {
    let mut chunks = VecDeque::new();
    let mut small = BytesMut::new();
    for piece in pieces {
        let is_small = piece.len() < SMALL;
        if !small.is_empty() && (!is_small || small.len() + piece.len() > CHUNK) {
            chunks.push_back(small.split().freeze());
        }
        if is_small {
            small.extend_from_slice(&piece);
        } else {
            chunks.push_back(piece);
        }
    }
    if !small.is_empty() {
        chunks.push_back(small.freeze());
    }
    chunks
}
