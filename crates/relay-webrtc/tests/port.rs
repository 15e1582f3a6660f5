//! The port on real sockets of the loopback interface.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that trips over them has failed")]

use std::{net::SocketAddr, time::Duration};

use relay_webrtc::{Advertise, Datagram, Lane, Outbox, Port, PortSettings, Protocol};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

const SOON: Duration = Duration::from_secs(10);

fn loopback(advertise: Vec<Advertise>) -> Port {
    Port::bind(PortSettings { listen: "127.0.0.1:0".parse().unwrap(), advertise }).unwrap()
}

/// A STUN message of a type, for a session's name if there is one (RFC 8489 §5, §14.3).
fn stun(kind: u16, ufrag: Option<&str>) -> Vec<u8> {
    let mut body = Vec::new();
    if let Some(ufrag) = ufrag {
        let username = format!("{ufrag}:them");
        body.extend([0, 6, 0, u8::try_from(username.len()).unwrap()]);
        body.extend(username.as_bytes());
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut message = kind.to_be_bytes().to_vec();
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend([0x21, 0x12, 0xA4, 0x42]);
    message.extend([5; 12]);
    message.extend(body);
    message
}

async fn next(lane: &Lane, waiting: &mut Vec<Datagram>) -> Datagram {
    while waiting.is_empty() {
        timeout(SOON, lane.arrived()).await.unwrap();
        lane.drain(waiting);
    }
    waiting.remove(0)
}

/// Runs `test` while the port runs.
async fn with(port: &Port, test: impl Future<Output = ()>) {
    tokio::select! {
        error = port.run() => unreachable!("the port has ended: {error}"),
        () = test => {}
    }
}

#[tokio::test]
async fn datagrams_find_their_session_and_batches_arrive_one_by_one() {
    let port = loopback(Vec::new());
    with(&port, async {
        let lane = port.lane();
        let mut session = lane.register();
        let viewer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (us, them) = (port.listen(), viewer.local_addr().unwrap());
        let mut waiting = Vec::new();
        viewer.send_to(&stun(1, Some("nobody")), us).await.unwrap();
        viewer.send_to(&[22, 0], us).await.unwrap();
        viewer.send_to(&[], us).await.unwrap();
        viewer.send_to(&stun(1, Some(session.ufrag())), us).await.unwrap();
        let request = next(&lane, &mut waiting).await;
        assert_eq!((request.session, request.source, request.destination), (session.key(), them, us));

        let mut outbox = Outbox::new(&port);
        let success = stun(0x101, None);
        session.sent(Protocol::Udp, them, &success);
        outbox.push(Protocol::Udp, us, them, &success);
        // Equal ones and a short one make a batch; so does what comes after it.
        let sent: Vec<Vec<u8>> = (0..100).map(|i| vec![0x80 | i, i, if i % 10 == 9 { 0 } else { 1 }]).collect();
        let sent: Vec<Vec<u8>> =
            sent.into_iter().map(|kind| vec![kind[1]; if kind[2] == 0 { 300 } else { 1_100 }]).collect();
        for datagram in &sent {
            outbox.push(Protocol::Udp, us, them, datagram);
        }
        outbox.flush().await;
        let mut buffer = [0; 2_000];
        let mut received = Vec::new();
        for _ in 0..=sent.len() {
            let (length, from) = timeout(SOON, viewer.recv_from(&mut buffer)).await.unwrap().unwrap();
            assert_eq!(from, us);
            received.push(buffer[..length].to_vec());
        }
        assert_eq!((&received[0], &received[1..]), (&success, &sent[..]));

        viewer.send_to(&[22, 1], us).await.unwrap();
        assert_eq!(&next(&lane, &mut waiting).await.contents[..], [22, 1]);
        let drops = port.drops();
        assert_eq!((drops.unknown_session, drops.unknown_address, drops.send_buffer_full), (1, 1, 0));
    })
    .await;
}

#[tokio::test]
async fn frames_of_a_tcp_connection_are_datagrams() {
    let port = loopback(Vec::new());
    with(&port, async {
        let lane = port.lane();
        let session = lane.register();
        let frame = |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
        let mut stranger = TcpStream::connect(port.listen()).await.unwrap();
        stranger.write_all(&frame(&stun(1, Some("nobody")))).await.unwrap();
        assert_eq!(timeout(SOON, stranger.read(&mut [0])).await.unwrap().unwrap(), 0, "it is shown the door");

        let mut viewer = TcpStream::connect(port.listen()).await.unwrap();
        let them = viewer.local_addr().unwrap();
        let request = frame(&stun(1, Some(session.ufrag())));
        let mut waiting = Vec::new();
        for half in request.chunks(7) {
            viewer.write_all(half).await.unwrap();
        }
        let datagram = next(&lane, &mut waiting).await;
        assert_eq!((datagram.protocol, datagram.source, datagram.session), (Protocol::Tcp, them, session.key()));
        let mut outbox = Outbox::new(&port);
        outbox.push(Protocol::Tcp, port.listen(), them, b"answer");
        outbox.flush().await;
        let mut answer = [0; 8];
        timeout(SOON, viewer.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"\0\x06answer");
        // A frame longer than any that WebRTC has ends the connection, and nothing else.
        viewer.write_all(&[0xff, 0xff]).await.unwrap();
        assert_eq!(timeout(SOON, viewer.read(&mut answer)).await.unwrap().unwrap(), 0);
        assert_eq!(port.drops().malformed, 1);
    })
    .await;
}

#[tokio::test]
async fn both_ports_are_the_same_and_a_taken_one_is_named() {
    let port = loopback(Vec::new());
    let candidates = port.candidates();
    assert_eq!(candidates.len(), 2);
    assert!(candidates.iter().all(|candidate| candidate.address == port.listen() && candidate.base == port.listen()));
    let error = Port::bind(PortSettings { listen: port.listen(), advertise: Vec::new() }).unwrap_err();
    assert!(error.to_string().contains(&format!("{} (UDP)", port.listen())), "{error}");
}

#[tokio::test]
async fn what_a_stun_server_and_a_name_tell_is_told_to_viewers() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let asked: Advertise = format!("stun:{}", server.local_addr().unwrap()).parse().unwrap();
    let port = loopback(vec![asked, "localhost:40000".parse().unwrap()]);
    assert!(port.candidates().is_empty(), "nothing is known yet");
    let answering = async {
        let mut buffer = [0; 64];
        // The first question is lost on the way.
        server.recv_from(&mut buffer).await.unwrap();
        let (length, from) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!((length, from), (20, port.listen()));
        // 203.0.113.7:9 xor the magic cookie (RFC 8489 §14.2).
        let mut answer = vec![1, 1, 0, 12];
        answer.extend(&buffer[4..20]);
        answer.extend([0, 0x20, 0, 8, 0, 1, 0x21, 0x12 ^ 9, 203 ^ 0x21, 0x12, 113 ^ 0xA4, 7 ^ 0x42]);
        server.send_to(&answer, from).await.unwrap();
        let told = ["203.0.113.7:9", "127.0.0.1:40000"].map(|address| address.parse::<SocketAddr>().unwrap());
        timeout(SOON, async {
            while port.candidates().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let addresses: Vec<SocketAddr> = port.candidates().iter().map(|candidate| candidate.address).collect();
        assert_eq!(addresses, [told, told].concat());
        assert!(port.candidates().iter().all(|candidate| candidate.base == port.listen()));
    };
    with(&port, answering).await;
}
