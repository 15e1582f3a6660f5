//! WebRTC for viewers: negotiation, packets built once per stream, one session per viewer, one port for all of them.

mod port;
mod proto;

#[cfg(fuzzing)]
pub use port::demultiplex;
pub use port::{
    Advertise, BindError, Datagram, Lane, NotAdvertisable, Outbox, Port, PortDrops, PortSettings, Registration,
    SessionKey,
};

pub use proto::{
    Certificate, CertificateError, CloseCause, Event, FragmentError, H264Choice, H264Reason, Handed, LocalCandidate,
    Media, Output, PAYLOAD_MAX, Packetizer, Protocol, Refusal, RefusalKind, RtpUnit, SelectedPair, Session,
    SessionReport, SessionSettings, SessionState, Transmit, answer,
};
