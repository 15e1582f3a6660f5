//! What goes over the wire, without sockets and without clocks: [`answer`] an offer, [`Packetizer`], [`Session`].

mod answer;
mod candidate;
mod certificate;
mod choice;
mod fragment;
mod negotiation;
mod offer;
mod packetizer;
mod payload;
mod refusal;
mod report;
mod session;
mod timeline;

pub use candidate::{LocalCandidate, Protocol};
pub use certificate::{Certificate, CertificateError};
pub use choice::{H264Choice, H264Reason};
pub use fragment::FragmentError;
pub use negotiation::{Media, SessionSettings, answer};
pub use packetizer::{PAYLOAD_MAX, Packetizer, RtpUnit};
pub use refusal::{Refusal, RefusalKind};
pub use report::{SelectedPair, SessionReport, SessionState};
pub use session::{CloseCause, Event, Handed, Output, Session, Transmit};
