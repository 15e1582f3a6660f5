//! The head of a PutMedia request, signed; and what the peer's clock says about ours.
//!
//! The body's chunks are framed by hyper (RFC 9112 §7.1); their borders mean nothing to the service.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use http::{HeaderValue, Method, Request, header};
use relay_media::UtcTime;
use url::Url;

/// The service's name in signatures, of its control and its data plane.
const SERVICE: &str = "kinesisvideo";
/// A clock that is less wrong than this is left alone: signatures are good for five minutes, and the header tells
/// whole seconds.
const SKEW_MIN: Duration = Duration::from_secs(30);

/// A PutMedia call.
#[derive(Clone, Copy)]
pub struct PutMedia<'a> {
    /// The stream's data endpoint, without a path.
    pub endpoint: &'a Url,
    /// The stream's name.
    pub stream: &'a str,
    /// Its region.
    pub region: &'a str,
    /// The time of its first fragment in milliseconds. Says nothing where times are absolute, but must be there.
    pub start_ms: u64,
    /// Who calls.
    pub credentials: &'a Credentials,
    /// The time of day, corrected by [`ClockSkew`].
    pub now: UtcTime,
}

impl fmt::Debug for PutMedia<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutMedia").field("endpoint", &self.endpoint.as_str()).field("stream", &self.stream).finish()
    }
}

/// Why a request can't be made.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The endpoint has no host, or is neither `http` nor `https`.
    #[error("{0} is no endpoint")]
    Endpoint(String),
    /// A value that no header can carry.
    #[error("the stream's name can't be sent")]
    Header(#[from] http::Error),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl PutMedia<'_> {
    /// The request's head. The body is chunked, without a length, and is not part of the signature: the service can't
    /// know it before the stream's end.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn head(&self) -> Result<Request<()>, RequestError> {
        let (host, path) = (self.authority()?, "/putMedia");
        // Zero-padded: the service's own producer writes 5 ms as ".5".
        let start = format!("{}.{:03}", self.start_ms / 1_000, self.start_ms % 1_000);
        let signed = [
            ("host", host.as_str()),
            ("x-amzn-fragment-acknowledgment-required", "1"),
            ("x-amzn-fragment-timecode-type", "ABSOLUTE"),
            ("x-amzn-producer-start-timestamp", &start),
            ("x-amzn-stream-name", self.stream),
        ];
        let mut request = Request::builder().method(Method::POST).uri(path);
        for (name, value) in signed {
            request = request.header(name, value);
        }
        let mut request = request.body(())?;
        let wrong = |error: &dyn fmt::Display| RequestError::Signing(error.to_string());
        let uri = format!("{}://{host}{path}", self.endpoint.scheme());
        let signable = SignableRequest::new("POST", uri, signed.into_iter(), SignableBody::UnsignedPayload);
        let signable = signable.map_err(|error| wrong(&error))?;
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder().identity(&identity).region(self.region).name(SERVICE);
        let params = params.time(system_time(self.now)).settings(settings).build().map_err(|error| wrong(&error))?;
        let signed = sign(signable, &params.into()).map_err(|error| wrong(&error))?;
        let (instructions, _signature) = signed.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        // These may be changed on the way, and are not signed.
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("relay-kvs/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        Ok(request)
    }

    fn authority(&self) -> Result<String, RequestError> {
        let is_http = matches!(self.endpoint.scheme(), "http" | "https");
        let host = self.endpoint.host_str().filter(|_| is_http);
        let host = host.ok_or_else(|| RequestError::Endpoint(self.endpoint.to_string()))?;
        Ok(self.endpoint.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }
}

/// How wrong our clock is, by the `Date` of the service's answers. A signature made by a wrong clock is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSkew {
    nanos: i64,
}

impl ClockSkew {
    /// An answer that came at `local` has this `Date` (RFC 9110 §5.6.7). One that can't be read says nothing.
    pub fn learn(&mut self, date: &str, local: UtcTime) {
        let Some(theirs) = httpdate::parse_http_date(date).ok().and_then(utc) else { return };
        let nanos = theirs.nanos_since(local);
        let is_wrong = Duration::from_nanos(nanos.unsigned_abs()) >= SKEW_MIN;
        self.nanos = if is_wrong { nanos } else { 0 };
    }

    /// The service's time of day.
    pub fn correct(&self, local: UtcTime) -> UtcTime {
        local.plus_nanos(self.nanos)
    }

    /// How many seconds the service's clock is ahead of ours; 0 if that does not matter.
    pub fn seconds(&self) -> i64 {
        self.nanos / 1_000_000_000
    }
}

/// A time of day as the standard library has it.
pub fn system_time(time: UtcTime) -> SystemTime {
    let nanos = Duration::from_nanos(time.unix_nanos().unsigned_abs());
    if time.unix_nanos() < 0 { UNIX_EPOCH - nanos } else { UNIX_EPOCH + nanos }
}

/// A time of day of the standard library's.
pub fn utc(time: SystemTime) -> Option<UtcTime> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    Some(UtcTime::from_unix_nanos(i64::try_from(since.as_nanos()).ok()?))
}
