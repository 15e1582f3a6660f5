//! One connection to the farm: requests in, answers out.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

use crate::{
    audio::Audio,
    camera::{Camera, Transports},
    clock,
    fault::Condition,
    locked,
    rtsp::{self, Item, Message},
    sdp::{self, SetsInSdp},
    session::{Session, UdpPair},
    stage::{Flow, Path},
    truth::SessionEnd,
};

/// Read in one go; requests are under 1 KiB.
const READ: usize = 16 * 1024;
/// How often a frozen camera looks whether it may answer again.
const FROZEN_POLL: Duration = Duration::from_millis(10);
/// An idle connection is looked at this often, for session timeouts.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, cameras: Vec<Arc<Camera>>, udp: Arc<UdpPair>) {
    let _ = stream.set_nodelay(true);
    let mut connection = Connection {
        session: Arc::new(Session::new(stream, peer)),
        cameras,
        udp,
        camera: None,
        flows: [None, None],
        playing: false,
        nonce: format!("{:016x}", fastrand::u64(..)),
        id: format!("{:08}", fastrand::u32(..100_000_000)),
        heard: Instant::now(),
    };
    let end = connection.run().await;
    if let Some(camera) = &connection.camera {
        locked(&camera.stage).remove(&connection.session, end);
    }
}

struct Connection {
    session: Arc<Session>,
    cameras: Vec<Arc<Camera>>,
    udp: Arc<UdpPair>,
    /// The camera of the last request.
    camera: Option<Arc<Camera>>,
    /// Video and audio, as set up.
    flows: [Option<Flow>; 2],
    playing: bool,
    nonce: String,
    id: String,
    heard: Instant,
}

/// What to do after a request.
enum Then {
    GoOn,
    Close(SessionEnd),
}

impl Connection {
    async fn run(&mut self) -> SessionEnd {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; READ];
        loop {
            if self.session.is_over() {
                return SessionEnd::Reset;
            }
            while let Ok(Some((item, length))) = rtsp::next_item(&bytes) {
                bytes.drain(..length);
                self.heard = Instant::now();
                if let Item::Message(request) = item
                    && let Then::Close(end) = self.answer(&request).await
                {
                    return end;
                }
            }
            if rtsp::next_item(&bytes).is_err() || self.timed_out() {
                return SessionEnd::Reset;
            }
            let queued = self.session.has_queued();
            tokio::select! {
                ready = self.session.stream.readable() => {
                    if ready.is_err() { return SessionEnd::Viewer; }
                    match self.session.stream.try_read(&mut chunk) {
                        Ok(0) => return SessionEnd::Viewer,
                        Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(_) => return SessionEnd::Viewer,
                    }
                }
                _ = self.session.stream.writable(), if queued => {
                    if self.session.flush().is_err() { return SessionEnd::Viewer; }
                }
                () = self.session.woken.notified() => {}
                () = sleep_until(Instant::now() + IDLE_POLL) => {}
            }
        }
    }

    fn timed_out(&self) -> bool {
        let limit = self.camera.as_ref().and_then(|camera| camera.session_timeout);
        limit.is_some_and(|limit| self.heard.elapsed() > limit)
    }

    async fn answer(&mut self, request: &Message) -> Then {
        let mount = request.path().split('/').next().unwrap_or_default();
        if let Some(camera) = self.cameras.iter().find(|camera| camera.mount == mount) {
            self.camera = Some(camera.clone());
        }
        let Some(camera) = self.camera.clone() else {
            let status = if request.method == "OPTIONS" { 200 } else { 404 };
            return self.reply(&request.response(status, &[("Public", METHODS)], ""));
        };
        locked(&camera.control).requests += 1;
        let condition = loop {
            let condition = camera.condition(Instant::now());
            if condition.killed || self.session.is_over() || (condition.refused && !self.playing) {
                self.session.reset();
                return Then::Close(SessionEnd::Reset);
            }
            if !condition.frozen {
                break condition;
            }
            tokio::time::sleep(FROZEN_POLL).await;
        };
        if condition.garbage {
            return self.reply(GARBAGE);
        }
        if let Some(status) = condition.answer {
            let challenge = format!("Basic realm=\"{}\"", camera.mount);
            let headers = [("WWW-Authenticate", challenge.as_str())];
            let headers = if status == 401 { headers.as_slice() } else { &[] };
            return self.reply(&request.response(status, headers, ""));
        }
        if !locked(&camera.control).auth.admits(&request.method, request.header("Authorization"), &self.nonce)
            && request.method != "OPTIONS"
        {
            let challenge = locked(&camera.control).auth.challenge(&self.nonce).unwrap_or_default();
            return self.reply(&request.response(401, &[("WWW-Authenticate", &challenge)], ""));
        }
        match request.method.as_str() {
            "OPTIONS" => self.reply(&request.response(200, &[("Public", METHODS)], "")),
            "DESCRIBE" => self.describe(&camera, &condition, request).await,
            "SETUP" => self.setup(&camera, request),
            "PLAY" => self.play(&camera, request),
            "PAUSE" | "TEARDOWN" => {
                locked(&camera.stage).remove(&self.session, SessionEnd::Viewer);
                self.playing = false;
                self.reply(&request.response(200, &[("Session", &self.id)], ""))
            }
            "GET_PARAMETER" | "SET_PARAMETER" => self.reply(&request.response(200, &[("Session", &self.id)], "")),
            _ => self.reply(&request.response(501, &[], "")),
        }
    }

    fn reply(&self, bytes: &[u8]) -> Then {
        if self.session.send(bytes, None).is_ok() { Then::GoOn } else { Then::Close(SessionEnd::Viewer) }
    }

    async fn describe(&self, camera: &Camera, condition: &Condition, request: &Message) -> Then {
        let Some(clip) = locked(&camera.stage).clip() else { return self.reply(&request.response(404, &[], "")) };
        let sets = if condition.no_sdp_sets || condition.no_sets { SetsInSdp::Absent } else { SetsInSdp::Present };
        let body = sdp::describe(&clip, camera.audio, sets);
        let base = format!("rtsp://{}/{}/", camera.address, camera.mount);
        let headers = [("Content-Type", "application/sdp"), ("Content-Base", base.as_str())];
        if condition.endless_sdp {
            return self.endless(request, &body).await;
        }
        self.reply(&request.response(200, &headers, &body))
    }

    /// A description of 2 GB, as fast as it is read.
    async fn endless(&self, request: &Message, body: &str) -> Then {
        let headers = [("Content-Type", "application/sdp"), ("Content-Length", "2000000000")];
        let mut next = request.response(200, &headers, "");
        next.extend_from_slice(body.as_bytes());
        loop {
            if self.session.send(&next, None).is_err() || self.session.is_over() {
                return Then::Close(SessionEnd::Viewer);
            }
            while self.session.has_queued() {
                if self.session.stream.writable().await.is_err() || self.session.flush().is_err() {
                    return Then::Close(SessionEnd::Viewer);
                }
            }
            next = b"a=x-endless:and so on\r\n".repeat(100);
            tokio::task::yield_now().await;
        }
    }

    fn setup(&mut self, camera: &Camera, request: &Message) -> Then {
        let control = request.path().rsplit('/').next().unwrap_or_default();
        let track = match control {
            sdp::AUDIO_CONTROL if camera.audio != Audio::None => 1,
            // Clients that take the mount for the only track's control mean video.
            control if control == sdp::VIDEO_CONTROL || control == camera.mount => 0,
            _ => return self.reply(&request.response(404, &[], "")),
        };
        let wanted = request.header("Transport").unwrap_or_default();
        let granted = wanted.split(',').find_map(|offer| self.grant(camera.transports, offer, track));
        let Some((path, transport)) = granted else { return self.reply(&request.response(461, &[], "")) };
        let flow = Flow::new(path);
        let transport = format!("{transport};ssrc={:08X}", flow.ssrc);
        if let Some(slot) = self.flows.get_mut(usize::from(track)) {
            *slot = Some(flow);
        }
        let session = format!("{};timeout={}", self.id, camera.session_timeout.map_or(60, |limit| limit.as_secs()));
        self.reply(&request.response(200, &[("Transport", &transport), ("Session", &session)], ""))
    }

    /// The path of one offer of a Transport header (RFC 2326 §12.39) and how it is confirmed.
    fn grant(&self, transports: Transports, offer: &str, track: u8) -> Option<(Path, String)> {
        let parameter =
            |name| offer.split(';').find_map(|part| part.trim().split_once('=').filter(|(key, _)| *key == name));
        if offer.trim().starts_with("RTP/AVP/TCP") {
            let asked = parameter("interleaved").and_then(|(_, range)| range.split('-').next()?.parse().ok());
            let channel: u8 = asked.unwrap_or(track * 2);
            let confirmed = format!("RTP/AVP/TCP;unicast;interleaved={channel}-{}", channel.wrapping_add(1));
            return (transports != Transports::UdpOnly).then_some((Path::Channel(channel), confirmed));
        }
        let (_, ports) = parameter("client_port")?;
        let rtp: u16 = ports.split('-').next()?.parse().ok()?;
        let rtcp: u16 = ports.split('-').nth(1).map_or(Some(rtp.wrapping_add(1)), |port| port.parse().ok())?;
        let server = self.udp.rtp.local_addr().ok()?.port();
        let peer = self.session.peer.ip();
        let path = Path::Udp { rtp: SocketAddr::new(peer, rtp), rtcp: SocketAddr::new(peer, rtcp) };
        let confirmed = format!("RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={server}-{}", server + 1);
        (transports != Transports::TcpOnly).then_some((path, confirmed))
    }

    fn play(&mut self, camera: &Camera, request: &Message) -> Then {
        let flows = self.flows.clone();
        if flows.iter().all(Option::is_none) {
            return self.reply(&request.response(455, &[], ""));
        }
        let sequences = flows.clone().map(|flow| flow.map(|flow| flow.sequence));
        let mut stage = locked(&camera.stage);
        stage.remove(&self.session, SessionEnd::Viewer);
        let joined = stage.add(self.session.clone(), flows, Instant::now(), clock::utc());
        self.playing = true;
        let base = format!("rtsp://{}/{}", camera.address, camera.mount);
        let tracks = [(sdp::VIDEO_CONTROL, joined.video_ticks), (sdp::AUDIO_CONTROL, joined.audio_ticks)];
        let info: Vec<String> = tracks
            .iter()
            .zip(sequences)
            .filter_map(|((control, ticks), sequence)| {
                sequence.map(|sequence| format!("url={base}/{control};seq={sequence};rtptime={ticks}"))
            })
            .collect();
        let headers = [("Session", self.id.as_str()), ("Range", "npt=now-"), ("RTP-Info", &info.join(","))];
        self.reply(&request.response(200, &headers, ""))
    }
}

const METHODS: &str = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, SET_PARAMETER, TEARDOWN";
const GARBAGE: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 this is no RTSP \xff\xfe\r\n\r\nHTTP/9.9 \0\r\n\r\n";
