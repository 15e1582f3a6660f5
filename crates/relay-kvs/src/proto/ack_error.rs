//! The error numbers of acknowledgements, and what to do about each.

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckError {
    /// `ErrorId`.
    pub id: u32,
    /// `ErrorCode`; for numbers whose code was never seen, the name in the service's own producer.
    pub name: &'static str,
    /// Whether the same fragment is sent again by the service's own producer.
    pub retry: Retry,
    /// Whether that producer goes on without a reset of the whole stream.
    pub recoverable: bool,
    /// What is at fault, by which we decide.
    pub fault: Fault,
}

/// Whether a fragment is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It is.
    Resend,
    /// It would fail again.
    Skip,
}

/// What is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The fragment: it is set aside, and never sent again.
    Fragment,
    /// The fragment in this session: in another it may do, so it has a second try before it is set aside.
    Session,
    /// The connection or the service: everything not PERSISTED is sent again.
    Service,
    /// The stream, its key or what we may do: nothing is at fault with any fragment. They are kept, and sent again
    /// when somebody has mended it. (The service's own producer skips one fragment after the other.)
    Stream,
}

/// A number that is in no table: the connection is at fault, and everything is sent again.
const UNKNOWN: AckError =
    AckError { id: 0, name: "UNKNOWN", retry: Retry::Resend, recoverable: true, fault: Fault::Service };

impl AckError {
    /// The row of a number; one that is none of them is taken for a fault of the service.
    pub fn of(id: u32) -> Self {
        Self::ALL.into_iter().find(|error| error.id == id).unwrap_or(Self { id, ..UNKNOWN })
    }

    /// Every row.
    pub const ALL: [Self; 23] = [
        row(4000, "STREAM_READ_ERROR", Retry::Resend, true, Fault::Service),
        row(4001, "MAX_FRAGMENT_SIZE_REACHED", Retry::Skip, true, Fault::Fragment),
        row(4002, "MAX_FRAGMENT_DURATION_REACHED", Retry::Skip, true, Fault::Fragment),
        row(4003, "MAX_CONNECTION_DURATION_REACHED", Retry::Resend, true, Fault::Service),
        row(4004, "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS", Retry::Skip, true, Fault::Session),
        row(4005, "MORE_THAN_ONE_TRACK_FOUND", Retry::Skip, false, Fault::Fragment),
        row(4006, "INVALID_MKV_DATA", Retry::Skip, true, Fault::Fragment),
        row(4007, "INVALID_PRODUCER_TIMESTAMP", Retry::Skip, false, Fault::Fragment),
        row(4008, "STREAM_NOT_ACTIVE", Retry::Skip, false, Fault::Stream),
        row(4009, "FRAGMENT_METADATA_LIMIT_REACHED", Retry::Skip, true, Fault::Fragment),
        row(4010, "TRACK_NUMBER_MISMATCH", Retry::Skip, false, Fault::Fragment),
        row(4011, "FRAMES_MISSING_FOR_TRACK", Retry::Skip, true, Fault::Fragment),
        row(4012, "MORE_THAN_ALLOWED_TRACKS_FOUND", Retry::Skip, false, Fault::Fragment),
        row(4500, "KMS_KEY_ACCESS_DENIED", Retry::Skip, false, Fault::Stream),
        row(4501, "KMS_KEY_DISABLED", Retry::Skip, false, Fault::Stream),
        row(4502, "KMS_KEY_VALIDATION_ERROR", Retry::Skip, false, Fault::Stream),
        row(4503, "KMS_KEY_UNAVAILABLE", Retry::Skip, false, Fault::Stream),
        row(4504, "KMS_KEY_INVALID_USAGE", Retry::Skip, false, Fault::Stream),
        row(4505, "KMS_KEY_INVALID_STATE", Retry::Skip, false, Fault::Stream),
        row(4506, "KMS_KEY_NOT_FOUND", Retry::Skip, false, Fault::Stream),
        row(4507, "STREAM_DELETED", Retry::Skip, false, Fault::Stream),
        row(5000, "INTERNAL_ERROR", Retry::Resend, true, Fault::Service),
        row(5001, "ARCHIVAL_ERROR", Retry::Resend, true, Fault::Service),
    ];
}

const fn row(id: u32, name: &'static str, retry: Retry, recoverable: bool, fault: Fault) -> AckError {
    AckError { id, name, retry, recoverable, fault }
}
