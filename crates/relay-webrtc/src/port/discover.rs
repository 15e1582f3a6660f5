//! Finding out under which address the world sees this port: names, STUN servers, the EC2 metadata service.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Advertise, Inner, stun};

/// One question and its answer, each.
const PATIENCE: Duration = Duration::from_secs(2);

/// RFC 8489 §6.2.1 begins with 500 ms between tries.
const STUN_RETRY: Duration = Duration::from_millis(500);
const STUN_TRIES: usize = 4;

/// Where EC2 instances find their metadata.
const IMDS: &str = "169.254.169.254:80";

/// What the metadata service answers is a line.
const ANSWER_MAX: u64 = 8 << 10;

/// The addresses that `advertise` stands for now.
///
/// # Errors
/// What could not be asked or did not answer.
pub(super) async fn resolve(port: &Inner, advertise: &Advertise) -> io::Result<Vec<SocketAddr>> {
    let own = port.listen.port();
    match advertise {
        Advertise::Address(ip, told) => Ok(vec![SocketAddr::new(*ip, told.unwrap_or(own))]),
        Advertise::Name(name, told) => {
            let found = lookup(name, told.unwrap_or(own)).await?;
            Ok(found.into_iter().filter(|found| port.listen.is_ipv6() || found.is_ipv4()).collect())
        }
        Advertise::Stun(server, server_port) => {
            let servers = lookup(server, *server_port).await?;
            let usable = servers.into_iter().find(|server| port.listen.is_ipv6() || server.is_ipv4());
            let server =
                usable.ok_or_else(|| io::Error::other(format!("{server} has no address to reach from here")))?;
            Ok(vec![ask_stun(port, server).await?])
        }
        Advertise::Ec2 => {
            let ip = within(PATIENCE * 2, ask_ec2(IMDS)).await?;
            Ok(vec![SocketAddr::new(ip, own)])
        }
    }
}

async fn lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = within(PATIENCE, lookup_host((name, port))).await?.take(ADDRESSES_MAX).collect();
    if found.is_empty() { Err(io::Error::other(format!("{name} has no address"))) } else { Ok(found) }
}

/// More addresses of one name than this are left out.
const ADDRESSES_MAX: usize = 8;

async fn within<T>(limit: Duration, asked: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, asked).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// Asks through the port itself: a NAT's mapping is the one of the socket that asked.
async fn ask_stun(port: &Inner, server: SocketAddr) -> io::Result<SocketAddr> {
    let mut id = [0; 12];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let answer = port.questions.ask(id);
    tokio::pin!(answer);
    for _ in 0..STUN_TRIES {
        port.udp.send_one(server, &stun::binding_request(id)).await?;
        if let Ok(answered) = timeout(STUN_RETRY, &mut answer).await {
            return answered.ok_or_else(|| io::Error::other("the port was closed"));
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("the STUN server {server} does not answer")))
}

/// IMDSv2: a token first, then the address with it.
async fn ask_ec2(service: &str) -> io::Result<IpAddr> {
    let token = exchange(
        service,
        "PUT /latest/api/token HTTP/1.0\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await?;
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(io::Error::other("the metadata service gave no token"));
    }
    let request = format!(
        "GET /latest/meta-data/public-ipv4 HTTP/1.0\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token: {token}\r\n\r\n"
    );
    let address = exchange(service, &request).await?;
    address
        .parse()
        .map_err(|_| io::Error::other("the metadata service told no address: has the instance a public one?"))
}

/// One HTTP/1.0 request and the body of its answer, without white space around it.
async fn exchange(service: &str, request: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(service).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    match head.split_whitespace().nth(1) {
        Some("200") => Ok(body.trim().to_owned()),
        status => Err(io::Error::other(format!("the metadata service answered {}", status.unwrap_or("nothing")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A metadata service that wants its token and tells `body`, asked once.
    async fn ask_one_that_tells(body: &'static str) -> io::Result<IpAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let serving = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_lowercase();
                let answer = if request.starts_with("put /latest/api/token") {
                    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nticket".to_owned()
                } else if request.contains("x-aws-ec2-metadata-token: ticket\r\n") {
                    format!("HTTP/1.1 200 OK\r\n\r\n{body}\n")
                } else {
                    "HTTP/1.1 401 Unauthorized\r\n\r\n".to_owned()
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        tokio::select! {
            () = serving => unreachable!("it serves for ever"),
            told = ask_ec2(&address) => told,
        }
    }

    #[tokio::test]
    async fn the_metadata_service_tells_the_public_address() {
        assert_eq!(ask_one_that_tells("203.0.113.9").await.unwrap(), "203.0.113.9".parse::<IpAddr>().unwrap());
        assert!(ask_one_that_tells("<html>").await.unwrap_err().to_string().contains("no address"));
    }
}
