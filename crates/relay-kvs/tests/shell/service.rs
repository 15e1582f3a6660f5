//! A service on a socket: the control plane's three calls, and PutMedia.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use relay_mkv::{Event, Reader, Sessions};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use url::Url;

/// How one PutMedia call goes.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Refuse(u16, &'static str),
    /// The connection breaks at this fragment.
    Break(usize),
    /// An error acknowledgement at this fragment.
    Error(usize, u32),
    /// Nothing is ever answered.
    Silent,
    /// The answer comes only once there are fragments.
    Late,
    Good,
}

#[derive(Default)]
struct State {
    answers: VecDeque<Answer>,
    fragments: BTreeMap<u64, u64>,
    signatures: Vec<String>,
    made: String,
    is_missing: bool,
}

pub(crate) struct Service {
    url: Url,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    pub(crate) async fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let state = Arc::new(Mutex::new(State { answers: answers.into(), ..State::default() }));
        let (shared, own) = (state.clone(), url.clone());
        let task = tokio::spawn(async move {
            let mut talks = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, url) = (shared.clone(), own.clone());
                talks.spawn(async move { drop(talk(stream, url, state).await) });
            }
        });
        Self { url, state, task }
    }

    /// A proxy to there, which keeps what it is told of who asks.
    pub(crate) async fn proxy(to: Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (mut stream, mut line) = (BufReader::new(stream), String::new());
            let target = to.socket_addrs(|| None).unwrap()[0];
            while stream.read_line(&mut line).await.unwrap() > 2 {
                let asked = std::mem::take(&mut line);
                assert!(!asked.starts_with("CONNECT") || asked.contains(&format!("CONNECT {target} ")), "{asked}");
                let auth = asked.trim().strip_prefix("Proxy-Authorization: ").map(str::to_owned);
                shared.lock().unwrap().signatures.extend(auth);
            }
            stream.get_mut().write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.unwrap();
            let mut there = TcpStream::connect(target).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
        });
        Self { url, state, task }
    }

    pub(crate) fn url(&self) -> Url {
        self.url.clone()
    }

    pub(crate) fn frames(&self) -> u64 {
        self.state.lock().unwrap().fragments.values().sum()
    }

    pub(crate) fn signatures(&self) -> Vec<String> {
        self.state.lock().unwrap().signatures.clone()
    }

    pub(crate) fn forget_stream(&self) {
        self.state.lock().unwrap().is_missing = true;
    }

    pub(crate) fn made(&self) -> String {
        self.state.lock().unwrap().made.clone()
    }
}

async fn talk(stream: TcpStream, url: Url, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (vec![], String::new());
        while stream.read_line(&mut line).await? > 2 {
            head.push(std::mem::take(&mut line).trim().to_owned());
        }
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)).map(str::to_owned) else { return Ok(()) };
        let field = |name: &str| {
            head.iter().find_map(|line| line.split_once(": ").filter(|(field, _)| field.eq_ignore_ascii_case(name)))
        };
        state.lock().unwrap().signatures.extend(field("authorization").map(|(_, value)| value.to_owned()));
        if path == "/putMedia" {
            return put_media(stream, state).await;
        }
        let len = field("content-length").map_or(0, |(_, value)| value.parse().unwrap());
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await?;
        let (status, json) = {
            let mut state = state.lock().unwrap();
            match path.as_str() {
                "/createStream" => {
                    state.is_missing = false;
                    state.made = String::from_utf8(body).unwrap();
                    ("200 OK", r#"{"StreamARN":"arn"}"#.to_owned())
                }
                _ if state.is_missing => {
                    ("404 Not Found", r#"{"__type":"ResourceNotFoundException","Message":"no"}"#.to_owned())
                }
                "/describeStream" => {
                    ("200 OK", r#"{"StreamInfo":{"Status":"ACTIVE","DataRetentionInHours":24}}"#.to_owned())
                }
                _ => ("200 OK", format!(r#"{{"DataEndpoint":"{}"}}"#, url.as_str().trim_end_matches('/'))),
            }
        };
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let len = json.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.get_mut().write_all(format!("{head}{json}").as_bytes()).await?;
    }
}

async fn put_media(mut stream: BufReader<TcpStream>, state: Arc<Mutex<State>>) -> std::io::Result<()> {
    let answer = state.lock().unwrap().answers.pop_front().unwrap_or(Answer::Good);
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let accept = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\nTransfer-Encoding: chunked\r\n\r\n");
    match answer {
        Answer::Refuse(status, name) => {
            let head = format!(
                "HTTP/1.1 {status} No\r\nx-amzn-ErrorType: {name}\r\nContent-Length: 16\r\n\r\n{{\"message\":\"no\"}}"
            );
            return stream.get_mut().write_all(head.as_bytes()).await;
        }
        Answer::Silent => return stream.read_to_end(&mut vec![]).await.map(drop),
        Answer::Late => {}
        _ => stream.get_mut().write_all(accept.as_bytes()).await?,
    }
    let (mut reader, mut open, mut count, mut is_accepted) =
        (Reader::new(Sessions::One), None, 0, !matches!(answer, Answer::Late));
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await?;
        if size == 0 {
            return stream.get_mut().write_all(b"0\r\n\r\n").await;
        }
        if !is_accepted {
            is_accepted = true;
            stream.get_mut().write_all(accept.as_bytes()).await?;
        }
        reader.push(&chunk[..size]);
        while let Some((_, event)) = reader.poll().unwrap() {
            match event {
                Event::Cluster { timecode } => open = Some((timecode, 0)),
                Event::Block(_) => open.as_mut().unwrap().1 += 1,
                Event::Tags(_) => {
                    let (timecode, frames): (u64, u64) = open.take().unwrap();
                    match answer {
                        Answer::Break(at) if at == count => return Ok(()),
                        Answer::Error(at, id) if at == count => {
                            let ack =
                                format!(r#"{{"EventType":"ERROR","FragmentTimecode":{timecode},"ErrorId":{id}}}"#);
                            acks(&mut stream, &[ack]).await?;
                            // A socket closed with bytes unread is reset, and the other end may lose what it got.
                            return stream.read_to_end(&mut vec![]).await.map(drop);
                        }
                        _ => {}
                    }
                    count += 1;
                    state.lock().unwrap().fragments.insert(timecode, frames);
                    let ack = |event| {
                        format!(
                            r#"{{"EventType":"{event}","FragmentTimecode":{timecode},"FragmentNumber":"{timecode}"}}"#
                        )
                    };
                    acks(&mut stream, &["BUFFERING", "RECEIVED", "PERSISTED"].map(ack)).await?;
                }
                _ => {}
            }
        }
    }
}

async fn acks(stream: &mut BufReader<TcpStream>, acks: &[String]) -> std::io::Result<()> {
    for ack in acks {
        stream.get_mut().write_all(format!("{:x}\r\n{ack}\r\n", ack.len()).as_bytes()).await?;
    }
    Ok(())
}
