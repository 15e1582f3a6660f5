//! One connection to a camera: RTSP requests in, RTP out.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use relay_media::{UtcTime, stamp::Stamp};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use crate::{
    Camera, Clip, Fault,
    camera::{SentSession, utc_nanos},
    request::{MAX_REQUEST, Request, challenge},
};

/// Serves one connection until it ends; `Err` is for the log of nobody.
pub(crate) async fn serve(mut stream: TcpStream, camera: Arc<Camera>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut faults = camera.watch();
    let mut session = Session::new(&camera, stream.peer_addr()?.ip());
    let mut buffer = Vec::new();
    let mut chunk = [0_u8; 4_096];
    loop {
        let due = session.due();
        tokio::select! {
            biased;
            _ = faults.changed() => {
                if *faults.borrow_and_update() == Fault::Gone {
                    stream.set_zero_linger()?;
                    return Ok(());
                }
            }
            read = stream.read(&mut chunk) => {
                let read = read?;
                if read == 0 || buffer.len() > MAX_REQUEST {
                    return Ok(());
                }
                buffer.extend(chunk.iter().take(read));
                while let Some((request, len)) = Request::parse(&buffer) {
                    buffer.drain(..len);
                    let answer = session.answer(&request).await?;
                    stream.write_all(&answer).await?;
                    if session.ended {
                        return Ok(());
                    }
                }
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(far).into()), if due.is_some() => {
                session.send_due(&mut stream).await?;
            }
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

struct Session<'a> {
    camera: &'a Camera,
    clip: Arc<Clip>,
    peer: IpAddr,
    route: Option<Route>,
    ssrc: u32,
    sequence: u16,
    timestamp_base: u32,
    next: Option<u64>,
    first: Option<u64>,
    played_utc_nanos: i64,
    report_due: Instant,
    lost: fastrand::Rng,
    wire: Vec<u8>,
    ended: bool,
}

/// Where RTP goes.
enum Route {
    Interleaved { channel: u8 },
    Udp { rtp: UdpSocket, rtcp: UdpSocket },
}

/// A camera that can't get rid of a picture within this drops the viewer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

impl<'a> Session<'a> {
    fn new(camera: &'a Camera, peer: IpAddr) -> Self {
        let mut rng = fastrand::Rng::new();
        Self {
            camera,
            clip: camera.clip(),
            peer,
            route: None,
            ssrc: rng.u32(..),
            sequence: rng.u16(..),
            timestamp_base: rng.u32(..),
            next: None,
            first: None,
            played_utc_nanos: 0,
            report_due: Instant::now(),
            lost: rng,
            wire: Vec::new(),
            ended: false,
        }
    }

    fn due(&self) -> Option<Instant> {
        self.next.map(|next| self.camera.due(next, self.clip.options.fps))
    }

    async fn answer(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let cseq = request.header("cseq").unwrap_or("0");
        let fault = self.camera.fault();
        if request.method.is_empty() {
            return Ok(Vec::new());
        }
        if fault == Fault::Garbage {
            return Ok(b"\x00\xff\x00no RTSP at all\r\n\r\n".to_vec());
        }
        let (status, headers, body) = match (&fault, &self.camera.options.credentials) {
            (Fault::Status(status), _) => (*status, String::new(), String::new()),
            (_, Some((user, password))) if request.method != "OPTIONS" && !request.is_authorised(user, password) => {
                (401, challenge(), String::new())
            }
            _ => self.handle(request).await?,
        };
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        Ok(format!("RTSP/1.0 {status} {}\r\nCSeq: {cseq}\r\n{headers}{length}\r\n{body}", reason(status)).into_bytes())
    }

    async fn handle(&mut self, request: &Request) -> io::Result<(u16, String, String)> {
        let session = "Session: 12345678;timeout=60\r\n";
        Ok(match request.method.as_str() {
            "OPTIONS" => {
                let methods = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN\r\n";
                (200, methods.into(), String::new())
            }
            "DESCRIBE" => {
                self.clip = self.camera.clip();
                let headers = format!("Content-Type: application/sdp\r\nContent-Base: {}/\r\n", request.uri);
                (200, headers, describe(&self.clip, self.camera.options.sprop))
            }
            "SETUP" => match self.set_up(request.header("transport").unwrap_or_default()).await? {
                Some(transport) => (200, format!("{session}Transport: {transport}\r\n"), String::new()),
                None => (461, String::new(), String::new()),
            },
            "PLAY" => {
                let now = Instant::now();
                self.next = Some(self.camera.counter_at(now, self.clip.options.fps) + 1);
                self.played_utc_nanos = utc_nanos();
                (200, format!("{session}Range: npt=now-\r\n"), String::new())
            }
            "GET_PARAMETER" | "SET_PARAMETER" => (200, session.into(), String::new()),
            "TEARDOWN" => {
                self.ended = true;
                (200, session.into(), String::new())
            }
            _ => (501, String::new(), String::new()),
        })
    }

    async fn set_up(&mut self, transport: &str) -> io::Result<Option<String>> {
        let fields: Vec<&str> = transport.split(';').map(str::trim).collect();
        if transport.contains("interleaved") || transport.contains("TCP") {
            self.route = Some(Route::Interleaved { channel: 0 });
            return Ok(Some(format!("RTP/AVP/TCP;unicast;interleaved=0-1;ssrc={:08x}", self.ssrc)));
        }
        let ports = fields.iter().find_map(|field| field.strip_prefix("client_port="));
        let Some(Ok(port)) = ports.and_then(|ports| ports.split('-').next()).map(str::parse::<u16>) else {
            return Ok(None);
        };
        let local = if self.peer.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let (rtp, rtcp) = (UdpSocket::bind(local).await?, UdpSocket::bind(local).await?);
        rtp.connect(SocketAddr::new(self.peer, port)).await?;
        rtcp.connect(SocketAddr::new(self.peer, port + 1)).await?;
        let server = format!("{}-{}", rtp.local_addr()?.port(), rtcp.local_addr()?.port());
        self.route = Some(Route::Udp { rtp, rtcp });
        Ok(Some(format!("RTP/AVP;unicast;client_port={port}-{};server_port={server};ssrc={:08x}", port + 1, self.ssrc)))
    }

    /// Sends the picture that is due, unless a fault or the wait for the first key frame keeps it back.
    async fn send_due(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let Some(counter) = self.next else { return Ok(()) };
        self.next = Some(counter + 1);
        let fault = self.camera.fault();
        let clip = self.clip.clone();
        let Some(unit) = clip.unit(counter) else { return Ok(()) };
        let waits = self.first.is_none() && !unit.key && fault != Fault::NoKeyFrames;
        if fault == Fault::Frozen || waits || (fault == Fault::NoKeyFrames && unit.key) {
            if fault != Fault::None {
                // What comes after a gap is another session for the books.
                self.first = None;
            }
            return Ok(());
        }
        let frozen = fault == Fault::TimestampsFrozen;
        let shown = if frozen { 0 } else { counter.wrapping_mul(90_000) / u64::from(clip.options.fps.max(1)) };
        let timestamp = self.timestamp_base.wrapping_add(shown as u32);
        let now = utc_nanos();
        let stamp = Stamp { counter, utc_nanos: now }.to_nal();
        let loss = if let Fault::Loss(permille) = fault { permille } else { 0 };
        self.wire.clear();
        let last = unit.rtp.len().saturating_sub(1);
        for (index, payload) in unit.rtp.iter().enumerate() {
            let payload: &[u8] = if index == 0 { &stamp } else { payload };
            self.sequence = self.sequence.wrapping_add(1);
            if loss > 0 && self.lost.u32(..1_000) < loss {
                continue;
            }
            let marker = if index == last { 0x80 } else { 0 };
            self.append(marker, timestamp, payload);
        }
        self.flush(stream).await?;
        if Instant::now() >= self.report_due {
            self.report_due = Instant::now() + REPORT_INTERVAL;
            self.send_report(stream, timestamp, now).await?;
        }
        self.note_sent(counter, now);
        Ok(())
    }

    fn note_sent(&mut self, counter: u64, now: i64) {
        match self.first {
            Some(first) => self.camera.sent(first, counter),
            None => {
                self.first = Some(counter);
                let played_utc_nanos = self.played_utc_nanos;
                let session = SentSession { played_utc_nanos, first_utc_nanos: now, first: counter, last: counter };
                self.camera.session_began(session);
            }
        }
    }

    /// Appends a packet to the wire buffer: 4 bytes of interleaving (RFC 2326 §10.12), 12 of RTP (RFC 3550 §5.1).
    fn append(&mut self, marker: u8, timestamp: u32, payload: &[u8]) {
        let channel = if let Some(Route::Interleaved { channel }) = self.route { channel } else { 0 };
        let len = u16::try_from(payload.len() + 12).unwrap_or(u16::MAX);
        self.wire.extend_from_slice(&[b'$', channel]);
        self.wire.extend_from_slice(&len.to_be_bytes());
        self.wire.extend_from_slice(&[0x80, marker | 96]);
        self.wire.extend_from_slice(&self.sequence.to_be_bytes());
        self.wire.extend_from_slice(&timestamp.to_be_bytes());
        self.wire.extend_from_slice(&self.ssrc.to_be_bytes());
        self.wire.extend_from_slice(payload);
    }

    async fn flush(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match &self.route {
            Some(Route::Interleaved { .. }) => write(stream, &self.wire).await,
            Some(Route::Udp { rtp, .. }) => {
                let mut rest = self.wire.as_slice();
                while let [b'$', _, high, low, tail @ ..] = rest {
                    let len = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some((packet, tail)) = tail.split_at_checked(len) else { break };
                    // A viewer that has closed its port answers with ICMP: TCP will tell, too.
                    let _ = rtp.try_send(packet);
                    rest = tail;
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// A sender report (RFC 3550 §6.4.1).
    async fn send_report(&self, stream: &mut TcpStream, timestamp: u32, now: i64) -> io::Result<()> {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend_from_slice(&self.ssrc.to_be_bytes());
        report.extend_from_slice(&UtcTime::from_unix_nanos(now).to_ntp().to_be_bytes());
        report.extend_from_slice(&timestamp.to_be_bytes());
        report.extend_from_slice(&[0; 8]);
        match &self.route {
            Some(Route::Interleaved { channel }) => {
                let mut framed = vec![b'$', channel + 1, 0, 28];
                framed.extend_from_slice(&report);
                write(stream, &framed).await
            }
            Some(Route::Udp { rtcp, .. }) => {
                let _ = rtcp.try_send(&report);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, stream.write_all(bytes)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

fn describe(clip: &Clip, sprop: bool) -> String {
    let config = &clip.config;
    let sets = format!(";sprop-parameter-sets={},{}", BASE64.encode(config.sps()), BASE64.encode(config.pps()));
    let sets = if sprop { sets } else { String::new() };
    format!(
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\n\
         a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id={}{sets}\r\n\
         a=control:trackID=0\r\n",
        config.profile_level_id(),
    )
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        461 => "Unsupported Transport",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Status",
    }
}
