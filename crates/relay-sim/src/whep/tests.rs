//! A crowd against a small WHEP server: one str0m session and one socket a viewer, no retained key frame.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use relay_media::stamp::Stamp;
use str0m::{
    Candidate, Input, Output, Rtc,
    change::SdpOffer,
    media::{Direction, Mid, Pt},
    net::{Protocol, Receive},
    rtp::RtpWrite,
};

use super::*;
use crate::{
    Clip, ClipSpec, clock,
    link::{Conditions, Link, LinkConfig},
    wire::{INTERLEAVED_HEADER, RTP_HEADER, WireUnit},
};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server with one stream, whose frames pass through a link if there is one.
struct Server {
    http: SocketAddr,
    stop: Arc<AtomicBool>,
    deleted: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

struct Session {
    rtc: Rtc,
    socket: UdpSocket,
    local: SocketAddr,
    /// Cut with the session.
    _link: Option<Link>,
    mid: Option<(Mid, Pt)>,
    seq: u64,
}

impl Server {
    /// `skip`: every so many frames one is left out.
    fn start(conditions: Option<Conditions>, skip: Option<u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let http = listener.local_addr().unwrap();
        let (stop, deleted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clip = Clip::make(ClipSpec { seconds: 1, gop_frames: 10, ..ClipSpec::small() }).unwrap();
        let (stopped, counted) = (stop.clone(), deleted.clone());
        let thread = std::thread::spawn(move || {
            let (mut sessions, mut frame, mut due) = (Vec::new(), 0_u64, clock::now());
            while !stopped.load(Ordering::Relaxed) {
                while let Ok((stream, _)) = listener.accept() {
                    match serve(stream, conditions) {
                        Some(session) => sessions.push(session),
                        None => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    }
                }
                let now = clock::now();
                let is_due = now >= due;
                for session in &mut sessions {
                    session.receive();
                    if is_due && skip.is_none_or(|skip| frame % skip != skip - 1) {
                        session.send(clip.unit(frame).unwrap(), frame, now);
                    }
                    session.rtc.handle_input(Input::Timeout(now)).unwrap();
                    session.drain();
                }
                if is_due {
                    (frame, due) = (frame + 1, due + Duration::from_millis(40));
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        Self { http, stop, deleted, thread: Some(thread) }
    }

    fn crowd(&self, viewers: usize) -> Crowd {
        let url = format!("http://{}/whep/test", self.http);
        Crowd::start(CrowdConfig::new(Signalling::Whep { url, token: Some("secret".into()), via: None }, viewers))
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// Answers one request: a new session, or `None` for a DELETE.
fn serve(mut stream: TcpStream, conditions: Option<Conditions>) -> Option<Session> {
    stream.set_nonblocking(false).unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 8_192]);
    let length = |text: &str| -> Option<usize> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let value = head.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
        Some(body.len().saturating_sub(value.parse::<usize>().ok()?) + usize::from(body.len() >= value.parse().ok()?))
    };
    while length(&text).is_none_or(|whole| whole == 0) {
        let count = stream.read(&mut buffer).unwrap();
        text += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    assert!(text.contains("Authorization: Bearer secret\r\n"), "{text}");
    if text.starts_with("DELETE /session/1 ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        return None;
    }
    let (_, offer) = text.split_once("\r\n\r\n").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let local = socket.local_addr().unwrap();
    let link = conditions.map(|conditions| {
        Link::start(LinkConfig { listen: "127.0.0.1:0".parse().unwrap(), to: local, conditions, seed: 1 }).unwrap()
    });
    let told = link.as_ref().map_or(local, Link::addr);
    let builder = Rtc::builder().set_ice_lite(true).set_rtp_mode(true).clear_codecs().enable_h264(true);
    let mut rtc = builder.build(clock::now());
    rtc.add_local_candidate(Candidate::host(told, "udp").unwrap());
    let answer = rtc.sdp_api().accept_offer(SdpOffer::from_sdp_string(offer).unwrap()).unwrap().to_sdp_string();
    let head = "HTTP/1.1 201 Created\r\nContent-Type: application/sdp\r\nlocation: /session/1\r\n";
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{answer}", answer.len()).as_bytes()).unwrap();
    Some(Session { rtc, socket, local: told, _link: link, mid: None, seq: 100 })
}

impl Session {
    fn receive(&mut self) {
        let mut buffer = [0; 2_000];
        while let Ok((length, source)) = self.socket.recv_from(&mut buffer) {
            if let Ok(receive) = Receive::new(Protocol::Udp, source, self.local, &buffer[..length]) {
                self.rtc.handle_input(Input::Receive(clock::now(), receive)).unwrap();
                self.drain();
            }
        }
    }

    fn send(&mut self, unit: &WireUnit, counter: u64, now: Instant) {
        if !self.rtc.is_connected() {
            return;
        }
        let Some((mid, pt)) = self.mid else { return };
        let stamp = Stamp { counter, utc_nanos: clock::utc().unix_nanos() };
        for (index, packet) in unit.packets.iter().enumerate() {
            let payload = &unit.image[packet.start + INTERLEAVED_HEADER + RTP_HEADER..packet.end];
            let is_stamp = Stamp::from_nal(payload).is_some();
            let payload: Arc<[u8]> = if is_stamp { stamp.to_nal().to_vec().into() } else { payload.into() };
            self.seq += 1;
            let time = u32::try_from(counter * 3_600).unwrap();
            let write = RtpWrite::new(pt, self.seq.into(), time, now, payload);
            let write = write.marker(index + 1 == unit.packets.len()).nackable(true);
            self.rtc.direct_api().stream_tx_by_mid(mid, None).unwrap().write_rtp(write);
            self.drain();
        }
    }

    fn drain(&mut self) {
        loop {
            match self.rtc.poll_output().unwrap() {
                Output::Timeout(_) => return,
                Output::Transmit(transmit) => {
                    // The viewer may have gone.
                    let _ = self.socket.send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(str0m::Event::MediaAdded(added)) => {
                    assert_eq!(added.direction, Direction::SendOnly);
                    let media = self.rtc.media(added.mid).unwrap();
                    self.mid = Some((added.mid, media.remote_pts()[0]));
                    // By itself str0m repeats no more than 15 % of the bytes; a tenth of loss, in both directions, asks
                    // for more than that now and then.
                    let mut api = self.rtc.direct_api();
                    let stream = api.stream_tx_by_mid(added.mid, None).unwrap();
                    stream.set_rtx_cache(1_024, Duration::from_secs(3), None);
                }
                Output::Event(_) => {}
            }
        }
    }
}

#[test]
fn a_crowd_sees_every_frame_and_how_late_it_is() {
    let server = Server::start(None, None);
    let crowd = server.crowd(3);
    let progress = crowd.await_playing(PATIENCE);
    assert_eq!((progress.playing, progress.failed), (3, 0), "{progress:?} {:?}", crowd.report());
    crowd.begin_window();
    while crowd.report().viewers.iter().any(|viewer| viewer.shown < 25) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let report = crowd.leave();
    assert_eq!(server.deleted.load(Ordering::Relaxed), 3, "{:?}", report.failures);
    for viewer in &report.viewers {
        let ViewerReport { incomplete, lost, orphans, unstamped, repeated, .. } = *viewer;
        assert_eq!([incomplete, lost, orphans, unstamped, repeated], [0; 5], "{viewer:?}");
        assert!(viewer.key_frames >= 2 && viewer.answer < viewer.connected && viewer.connected < viewer.first_key);
    }
    let p50 = report.latency_ms(50).unwrap();
    assert!((0.0..100.0).contains(&p50), "{p50} ms");
    assert!(report.table().contains("| viewers that play, failed joins | 3, 0 |"), "{}", report.table());
}

#[test]
fn what_a_server_leaves_out_is_counted() {
    let server = Server::start(None, Some(15));
    let crowd = server.crowd(1);
    while crowd.report().viewers.first().is_none_or(|viewer| viewer.whole < 45) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let report = crowd.report();
    let viewer = &report.viewers[0];
    assert!(viewer.lost >= 2 && viewer.incomplete == 0 && viewer.orphans > 0, "{viewer:?}");
    assert_eq!(viewer.shown + viewer.orphans, viewer.whole);
}

#[test]
fn retransmissions_repair_what_a_link_loses() {
    let lossy = Conditions { loss: 0.1, delay: Duration::from_millis(10), ..Conditions::default() };
    let server = Server::start(Some(lossy), None);
    let crowd = server.crowd(1);
    while crowd.report().viewers.first().is_none_or(|viewer| viewer.whole < 75) {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let report = crowd.report();
    let viewer = &report.viewers[0];
    // Without repair a tenth of the packets would be missing, and of frames with two or three packets each a quarter.
    assert!(viewer.incomplete <= 9, "{viewer:?}");
}

#[test]
fn what_goes_wrong_is_told() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{nobody}/whep/test");
    let crowd = Crowd::start(CrowdConfig::new(Signalling::Whep { url, token: None, via: None }, 2)).unwrap();
    assert_eq!(crowd.await_playing(PATIENCE).failed, 2);
    let report = crowd.leave();
    assert!(report.failures[0].contains("refused"), "{:?}", report.failures);
    let bad = Signalling::Whep { url: "https://example.invalid/".into(), token: None, via: None };
    assert!(Crowd::start(CrowdConfig::new(bad, 1)).is_err());
}
