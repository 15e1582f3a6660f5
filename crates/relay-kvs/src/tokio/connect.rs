//! A connection to the data plane: TCP, and TLS where it is asked for.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::proto::{Cause, Failure};

/// Names are resolved within this.
const RESOLVE_MAX: Duration = Duration::from_secs(3);
/// An address is tried for this long: a lost SYN costs a second try, which it would anyway.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Addresses tried.
const ADDRESSES_MAX: usize = 3;
/// The handshake takes at most this.
const TLS_MAX: Duration = Duration::from_secs(5);
/// Unacknowledged bytes end a connection after this, where the system can.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(12);

/// The longest answer of a proxy that is read.
const PROXY_ANSWER_MAX: usize = 8 << 10;

/// Whom to trust, and by which proxy to go: made once and shared.
#[derive(Clone)]
pub struct Network {
    tls: Arc<ClientConfig>,
    proxies: Arc<Matcher>,
}

impl fmt::Debug for Network {
    // A proxy's address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    /// Trusts what the system trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` are obeyed), goes by the environment's
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`. Reads files: blocking.
    ///
    /// # Errors
    /// There is no certificate to trust.
    pub fn system() -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        let (added, _ignored) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first().map_or("none was found".to_owned(), ToString::to_string);
            return Err(io::Error::other(format!("no certificate to trust: {why}")));
        }
        Self::trusting(roots)
    }

    /// Trusts these, goes by the environment's proxies.
    ///
    /// # Errors
    /// Never with the protocols that are compiled in.
    pub fn trusting(roots: RootCertStore) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        // Acknowledgements come while the body goes: HTTP/1.1 is what the service speaks there.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config), proxies: Arc::new(Matcher::from_env()) })
    }

    /// Goes by other proxies.
    #[must_use]
    pub fn by(self, proxies: Matcher) -> Self {
        Self { proxies: Arc::new(proxies), ..self }
    }
}

/// Either kind of connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) async fn connect(endpoint: &Url, network: &Network) -> Result<Box<dyn Stream>, Failure> {
    let wrong = || Failure::new(Cause::Invalid, format!("{endpoint} is no endpoint"));
    let (host, port) = (endpoint.host().ok_or_else(wrong)?, endpoint.port_or_known_default().ok_or_else(wrong)?);
    let uri: Uri = endpoint.as_str().parse().map_err(|_| wrong())?;
    let tcp = match network.proxies.intercept(&uri) {
        Some(proxy) => tunnel(&proxy, &format!("{host}:{port}")).await?,
        None => tcp(&host, port).await?,
    };
    if endpoint.scheme() != "https" {
        return Ok(Box::new(tcp));
    }
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|_| wrong())?,
        Host::Ipv4(ip) => ServerName::from(std::net::IpAddr::V4(ip)),
        Host::Ipv6(ip) => ServerName::from(std::net::IpAddr::V6(ip)),
    };
    match timeout(TLS_MAX, TlsConnector::from(network.tls.clone()).connect(name, tcp)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        // A certificate that is refused comes as this kind; all else is the connection's fault.
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Err(Failure::new(Cause::Tls, error.to_string()))
        }
        Ok(Err(error)) => Err(Failure::new(Cause::Connect, error.to_string())),
        Err(_) => Err(Failure::new(Cause::NoAnswer, "in the TLS handshake")),
    }
}

/// Has a proxy connect us (RFC 9110 §9.3.6).
async fn tunnel(proxy: &Intercept, target: &str) -> Result<TcpStream, Failure> {
    let failed = |detail: String| Failure::new(Cause::Connect, format!("by the proxy: {detail}"));
    let host = proxy.uri().host().ok_or_else(|| failed("it has no host".to_owned()))?;
    let host = Host::parse(host).map_err(|error| failed(error.to_string()))?;
    let host = match &host {
        Host::Domain(name) => Host::Domain(name.as_str()),
        Host::Ipv4(ip) => Host::Ipv4(*ip),
        Host::Ipv6(ip) => Host::Ipv6(*ip),
    };
    let mut stream = tcp(&host, proxy.uri().port_u16().unwrap_or(80)).await?;
    let auth = proxy.basic_auth().and_then(|auth| auth.to_str().ok());
    let auth = auth.map_or(String::new(), |auth| format!("Proxy-Authorization: {auth}\r\n"));
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{auth}\r\n");
    let talk = async {
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // To the head's end and no further: what follows is the target's.
        while !answer.ends_with(b"\r\n\r\n") && answer.len() < PROXY_ANSWER_MAX {
            answer.push(stream.read_u8().await?);
        }
        Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
    };
    let status: io::Result<String> =
        timeout(TLS_MAX, talk).await.map_err(|_| failed("it does not answer".to_owned()))?;
    let status = status.map_err(|error| failed(error.to_string()))?;
    match status.split(' ').nth(1) {
        Some(code) if code.starts_with('2') => Ok(stream),
        _ => Err(failed(status.chars().filter(|c| !c.is_control()).take(100).collect())),
    }
}

async fn tcp(host: &Host<&str>, port: u16) -> Result<TcpStream, Failure> {
    let addresses: Vec<SocketAddr> = match host {
        Host::Ipv4(ip) => vec![(*ip, port).into()],
        Host::Ipv6(ip) => vec![(*ip, port).into()],
        Host::Domain(name) => match timeout(RESOLVE_MAX, lookup_host((*name, port))).await {
            Ok(Ok(found)) => found.take(ADDRESSES_MAX).collect(),
            Ok(Err(error)) => return Err(Failure::new(Cause::Resolve, error.to_string())),
            Err(_) => return Err(Failure::new(Cause::Resolve, "the name server does not answer")),
        },
    };
    let mut failure = Failure::new(Cause::Resolve, "there is no address");
    for address in addresses {
        match timeout(CONNECT_MAX, dial(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => failure = Failure::new(Cause::Connect, format!("{address}: {error}")),
            Err(_) => failure = Failure::new(Cause::Connect, format!("{address} does not answer")),
        }
    }
    Err(failure)
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    socket.set_keepalive(true)?;
    Ok(stream)
}
