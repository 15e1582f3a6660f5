//! How a viewer comes to its session: it offers over WHEP, or answers what Janus's streaming plugin offers.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use str0m::{
    Candidate, Rtc,
    change::{SdpAnswer, SdpOffer},
    config::DtlsCert,
    media::{Direction, MediaKind},
};

use super::{
    JoinError,
    http::{Response, Url, request},
    janus::Janus,
    units::UtcNanos,
};
use crate::clock;

/// Where the viewers ask.
#[derive(Clone, Debug)]
pub enum Signalling {
    /// WHEP (draft-ietf-wish-whep-03): the offer is posted.
    Whep {
        /// `http://host:port/whep/stream`
        url: String,
        /// A bearer token.
        token: Option<String>,
        /// Where media is sent instead of where the answer says: through a [`Link`](crate::link::Link).
        via: Option<SocketAddr>,
    },
    /// The HTTP API of Janus and its streaming plugin, which makes the offer.
    Janus {
        /// `http://host:port/janus`
        url: String,
        /// The mountpoint's number.
        mountpoint: u64,
    },
}

/// A viewer that has its answer.
#[derive(Debug)]
pub(crate) struct Joined {
    pub(crate) rtc: Rtc,
    pub(crate) socket: UdpSocket,
    pub(crate) local: SocketAddr,
    /// When it began to ask.
    pub(crate) began: UtcNanos,
    /// When the answer was there.
    pub(crate) answered: UtcNanos,
    pub(crate) leave: Leave,
}

/// How a session is ended.
#[derive(Clone, Debug)]
pub(crate) enum Leave {
    Whep { url: Url, token: Option<String> },
    Janus { handle: Url },
}

/// Makes one session after the other.
#[derive(Debug)]
pub(crate) enum Desk {
    Whep { url: Url, token: Option<String>, via: Option<SocketAddr>, bind: IpAddr, certificate: Option<DtlsCert> },
    Janus { janus: Janus, bind: Option<IpAddr>, certificate: Option<DtlsCert> },
}

impl Desk {
    /// Viewers bind to `bind`, or to the address from which the server is reached.
    pub(crate) fn open(signalling: &Signalling, bind: Option<IpAddr>) -> Result<Self, JoinError> {
        // One certificate for all: making a key per viewer would cost more than the rest of its joining.
        let certificate = str0m::crypto::from_feature_flags().dtls_provider.generate_certificate();
        match signalling {
            Signalling::Whep { url, token, via } => {
                let url = Url::parse(url)?;
                let bind = bind.map_or_else(|| towards(url.address()), Ok)?;
                Ok(Self::Whep { url, token: token.clone(), via: *via, bind, certificate })
            }
            Signalling::Janus { url, mountpoint } => {
                Ok(Self::Janus { janus: Janus::open(&Url::parse(url)?, *mountpoint)?, bind, certificate })
            }
        }
    }

    pub(crate) fn join(&mut self) -> Result<Joined, JoinError> {
        match self {
            Self::Whep { url, token, via, bind, certificate } => {
                let socket = UdpSocket::bind((*bind, 0)).map_err(JoinError::Socket)?;
                post(url, token.as_deref(), *via, socket, certificate.clone())
            }
            Self::Janus { janus, bind, certificate } => watch(janus, *bind, certificate.clone()),
        }
    }
}

fn post(
    url: &Url,
    token: Option<&str>,
    via: Option<SocketAddr>,
    socket: UdpSocket,
    certificate: Option<DtlsCert>,
) -> Result<Joined, JoinError> {
    let local = socket.local_addr().map_err(JoinError::Socket)?;
    let mut rtc = fresh(certificate);
    rtc.add_local_candidate(host(local)?);
    let mut changes = rtc.sdp_api();
    changes.add_media(MediaKind::Video, Direction::RecvOnly, None, None, None);
    let (offer, pending) = changes.apply().ok_or(JoinError::NoOffer)?;
    let offer = offer.to_sdp_string();

    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/sdp")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let began = clock::utc().unix_nanos();
    let response = request("POST", url, &headers, &offer)?;
    let answered = clock::utc().unix_nanos();
    if response.status != 201 {
        return Err(refused(&response));
    }
    let answer = via.map_or_else(|| response.body.clone(), |via| led_through(&response.body, via));
    let answer = SdpAnswer::from_sdp_string(&answer).map_err(|error| JoinError::Sdp(error.to_string()))?;
    rtc.sdp_api().accept_answer(pending, answer)?;
    let location = response.header("location").ok_or(JoinError::NoLocation)?;
    let leave = Leave::Whep { url: url.join(location)?, token: token.map(str::to_owned) };
    Ok(Joined { rtc, socket, local, began, answered, leave })
}

fn watch(janus: &mut Janus, bind: Option<IpAddr>, certificate: Option<DtlsCert>) -> Result<Joined, JoinError> {
    let handle = janus.attach()?;
    let began = clock::utc().unix_nanos();
    let offer = janus.watch(&handle)?;
    // Janus leaves loopback out: where it offers to be reached is not where its API is.
    let server = candidate(&offer).unwrap_or_else(|| handle.url.address());
    let bind = bind.map_or_else(|| towards(server), Ok)?;
    let offer = SdpOffer::from_sdp_string(&offer).map_err(|error| JoinError::Sdp(error.to_string()))?;
    let socket = UdpSocket::bind((bind, 0)).map_err(JoinError::Socket)?;
    let local = socket.local_addr().map_err(JoinError::Socket)?;
    let mut rtc = fresh(certificate);
    rtc.add_local_candidate(host(local)?);
    let answer = rtc.sdp_api().accept_offer(offer)?;
    janus.start(&handle, &answer.to_sdp_string())?;
    let answered = clock::utc().unix_nanos();
    Ok(Joined { rtc, socket, local, began, answered, leave: Leave::Janus { handle: handle.url } })
}

impl JoinError {
    /// How long to wait before asking again, where that helps: too many requests, or no room just now.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        /// Nobody waits longer.
        const LONGEST: Duration = Duration::from_secs(10);
        match self {
            Self::Refused { status: 429 | 503, retry_after, .. } => retry_after.filter(|after| *after <= LONGEST),
            _ => None,
        }
    }
}

impl Leave {
    /// Ends the session at the server.
    pub(crate) fn leave(&self) -> Result<(), JoinError> {
        match self {
            Self::Whep { url, token } => {
                let bearer = token.as_ref().map(|token| format!("Bearer {token}"));
                let headers: Vec<_> = bearer.as_deref().map(|bearer| ("Authorization", bearer)).into_iter().collect();
                let response = request("DELETE", url, &headers, "")?;
                if response.status / 100 == 2 { Ok(()) } else { Err(refused(&response)) }
            }
            Self::Janus { handle } => Janus::detach(handle),
        }
    }
}

fn refused(response: &Response) -> JoinError {
    /// As much of a refusal as fits a line.
    const SHOWN: usize = 300;
    let retry_after = response.header("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs);
    JoinError::Refused { status: response.status, body: response.body.chars().take(SHOWN).collect(), retry_after }
}

/// A session that only receives, and hands out packets as they come.
fn fresh(certificate: Option<DtlsCert>) -> Rtc {
    let mut config = Rtc::builder().set_rtp_mode(true).clear_codecs().enable_h264(true).set_stats_interval(None);
    if let Some(certificate) = certificate {
        config = config.set_dtls_cert(certificate);
    }
    config.build(clock::now())
}

fn host(local: SocketAddr) -> Result<Candidate, JoinError> {
    Candidate::host(local, "udp").map_err(|error| JoinError::Sdp(error.to_string()))
}

/// A session description whose one candidate is `via`.
fn led_through(description: &str, via: SocketAddr) -> String {
    let others = description.lines().filter(|line| !line.starts_with("a=candidate:"));
    let (ip, port) = (via.ip(), via.port());
    let one = format!("a=candidate:1 1 udp 2130706431 {ip} {port} typ host");
    let lines = others.flat_map(|line| match line {
        "a=end-of-candidates" => vec![one.as_str(), line],
        line => vec![line],
    });
    lines.flat_map(|line| [line, "\r\n"]).collect()
}

/// The first candidate of a session description (RFC 8839 §5.1).
fn candidate(description: &str) -> Option<SocketAddr> {
    let line = description.lines().find_map(|line| line.strip_prefix("a=candidate:"))?;
    let mut fields = line.split(' ').skip(4);
    Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// The address of ours from which `server` is reached.
fn towards(server: SocketAddr) -> Result<IpAddr, JoinError> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(server)?;
        socket.local_addr()
    });
    Ok(found.map_err(JoinError::Socket)?.ip())
}

#[test]
fn candidates_are_read() {
    let line = "v=0\r\na=candidate:1 1 udp 2015363327 192.0.2.2 50473 typ host\r\na=end-of-candidates\r\n";
    assert_eq!(candidate(line), "192.0.2.2:50473".parse().ok());
    assert_eq!(candidate("v=0\r\na=candidate:1 1 udp\r\n"), None);
    let via = "127.0.0.1:9".parse().unwrap();
    assert_eq!(candidate(&led_through(line, via)), Some(via));
}
