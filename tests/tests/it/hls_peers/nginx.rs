//! A real nginx before a folder of live HLS: plain HTTP/1.1 with keep-alive and gzip, and HTTP/2 over TLS.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use relay_tests::http;
use relay_tests::process::{Process, wait_for};
use relay_tests::relayd::free_port;
use rustix::process::Signal;

/// Reading its configuration and binding two ports.
const START: Duration = Duration::from_secs(20);
/// A port found free may be taken before nginx binds it: so often is another one tried.
const TRIES: usize = 5;

/// A running nginx, in one process of this user, with all its files in one folder; killed when dropped, and by the
/// kernel should this process be.
#[derive(Debug)]
pub(crate) struct Nginx {
    process: Option<Process>,
    dir: PathBuf,
    plain: u16,
    tls: u16,
}

/// A line of its log.
#[derive(Debug)]
pub(crate) struct Request {
    /// `HTTP/1.1`, `HTTP/2.0`.
    pub(crate) protocol: String,
    /// Which of its connection it is, from 1.
    pub(crate) nth: u64,
    /// What it was answered.
    pub(crate) status: u16,
    /// `gzip`, or `-`.
    pub(crate) encoding: String,
    /// What was asked for.
    pub(crate) path: String,
}

impl Nginx {
    /// Starts it in `dir`; what is in [`root`](Self::root) is served.
    pub(crate) fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("www"))?;
        certify(dir)?;
        let mut failure = None;
        for _ in 0..TRIES {
            let mut nginx = Self { process: None, dir: dir.to_owned(), plain: free_port()?, tls: free_port()? };
            match nginx.begin() {
                Ok(()) => return Ok(nginx),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no try")?)
    }

    /// The folder that it serves.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("www")
    }

    /// Its own authority's certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A file's address over plain HTTP.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.plain)
    }

    /// A file's address over TLS.
    pub(crate) fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{path}", self.tls)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("it doesn't run")?.stop(Signal::KILL, START).map(drop)
    }

    /// Runs it, again on the same ports, and waits until it answers.
    pub(crate) fn begin(&mut self) -> anyhow::Result<()> {
        std::fs::write(self.dir.join("nginx.conf"), configuration(self.plain, self.tls))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nginx", "-e", "error.log", "-c", "nginx.conf", "-p"]).arg(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let address = ([127, 0, 0, 1], self.plain).into();
        let answers = || match process.ended() {
            Ok(None) => http::request(address, "GET", "/", None).ok().map(|_| Ok(())),
            _ => Some(Err(std::fs::read_to_string(self.dir.join("error.log")).unwrap_or_default())),
        };
        if let Err(said) = wait_for("nginx answers", START, answers)? {
            bail!("nginx ended: {said}");
        }
        self.process = Some(process);
        Ok(())
    }

    /// What it was asked for so far.
    pub(crate) fn requests(&self) -> anyhow::Result<Vec<Request>> {
        let text = std::fs::read_to_string(self.dir.join("access.log"))?;
        let request = |line: &str| {
            let mut words = line.split(' ');
            Some(Request {
                protocol: words.next()?.to_owned(),
                nth: words.next()?.parse().ok()?,
                status: words.next()?.parse().ok()?,
                encoding: words.next()?.to_owned(),
                path: words.next()?.to_owned(),
            })
        };
        Ok(text.lines().filter_map(request).collect())
    }
}

/// Paths are relative to its folder. `user` is for root alone, whose workers would else be somebody who reads nothing.
fn configuration(plain: u16, tls: u16) -> String {
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
daemon off;
master_process off;
pid nginx.pid;
error_log error.log warn;
events {{ worker_connections 256; }}
http {{
    types {{
        application/vnd.apple.mpegurl m3u8;
        video/mp2t ts;
        video/mp4 mp4 m4s;
    }}
    default_type application/octet-stream;
    log_format asked '$server_protocol $connection_requests $status $sent_http_content_encoding $uri';
    access_log access.log asked;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    sendfile on;
    keepalive_timeout 30s;
    gzip on;
    gzip_min_length 1;
    gzip_types application/vnd.apple.mpegurl;
    root www;
    server {{ listen 127.0.0.1:{plain}; }}
    server {{
        listen 127.0.0.1:{tls} ssl http2;
        ssl_certificate site.pem;
        ssl_certificate_key site.key;
    }}
}}
"#
    )
}

/// An authority of its own, and a certificate of it for `localhost`.
fn certify(dir: &Path) -> anyhow::Result<()> {
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let run = |arguments: &[&str]| {
        let mut openssl = Command::new("openssl");
        let output = openssl.args(arguments).current_dir(dir).stdin(Stdio::null()).output().context("start openssl")?;
        if !output.status.success() {
            bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    let authority = ["-x509", "-subj", "/CN=an authority for tests", "-keyout", "ca.key", "-out", "ca.pem"];
    run(&[&["req"], &key[..], &authority].concat())?;
    let request = ["-subj", "/CN=localhost", "-keyout", "site.key", "-out", "site.csr"];
    run(&[&["req"], &key[..5], &request].concat())?;
    std::fs::write(dir.join("site.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n")?;
    let sign =
        "x509 -req -in site.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile site.ext -out site.pem";
    run(&sign.split_whitespace().collect::<Vec<_>>())
}
