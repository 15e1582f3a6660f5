//! A headless Chromium, driven through chromedriver: W3C WebDriver over plain HTTP.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::http;
use crate::process::{Process, wait_for};

/// One browser with one page; both end when this is dropped.
#[derive(Debug)]
pub struct Browser {
    driver: SocketAddr,
    session: String,
    // Dropped last: the driver ends its browser when it is asked to, not when it is killed.
    _process: Process,
}

/// What makes Chromium run without a display, as root, and without calling home.
const ARGUMENTS: &[&str] = &[
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--window-size=1280,900",
];

impl Browser {
    /// Starts chromedriver and a browser.
    ///
    /// # Errors
    /// When either can't be started.
    pub fn start() -> anyhow::Result<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let said = process.stdout().context("chromedriver has no stdout")?;
        let driver = SocketAddr::from(([127, 0, 0, 1], said_port(said)?));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": ARGUMENTS},
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let answer = http::request(driver, "POST", "/session", Some(&wanted))?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let session = answer.pointer("/value/sessionId").and_then(Value::as_str);
        let session = session.with_context(|| format!("no session: {answer}"))?.to_owned();
        Ok(Self { driver, session, _process: process })
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When it can't be loaded.
    pub fn open(&self, url: &str) -> anyhow::Result<()> {
        self.ask("POST", "url", Some(&json!({"url": url}))).map(drop)
    }

    /// What the body of a JavaScript function returns.
    ///
    /// # Errors
    /// When it throws.
    pub fn run(&self, body: &str) -> anyhow::Result<Value> {
        self.ask("POST", "execute/sync", Some(&json!({"script": body, "args": []})))
    }

    /// What a JavaScript expression is, once it is true or something like it.
    ///
    /// # Errors
    /// As [`wait_until`](Self::wait_until).
    pub fn wait_for(&self, expression: &str, deadline: Duration) -> anyhow::Result<Value> {
        self.wait_until(expression, deadline)?;
        self.run(&format!("return {expression}"))
    }

    /// Waits until a JavaScript expression is true.
    ///
    /// # Errors
    /// When it is not by the deadline, or throws; the message has the text of the page.
    pub fn wait_until(&self, expression: &str, deadline: Duration) -> anyhow::Result<()> {
        let body = format!("return Boolean({expression})");
        let is_true = || match self.run(&body) {
            Ok(value) => (value == Value::Bool(true)).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        };
        let outcome = wait_for(expression, deadline, is_true).and_then(|outcome| outcome);
        outcome.with_context(|| {
            self.run("return document.body.innerText").map_or_else(|e| e.to_string(), |v| v.to_string())
        })
    }

    /// Writes what is seen as a PNG.
    ///
    /// # Errors
    /// When it can't be had or written.
    pub fn screenshot(&self, path: &Path) -> anyhow::Result<()> {
        let picture = self.ask("GET", "screenshot", None)?;
        let png = base64(picture.as_str().context("a screenshot is text")?).context("a screenshot is base64")?;
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(path, png).with_context(|| format!("write {}", path.display()))
    }

    /// What the page complained about in the console since the last call: errors of scripts, refused loads.
    ///
    /// # Errors
    /// When the log can't be had.
    pub fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let log = self.ask("POST", "se/log", Some(&json!({"type": "browser"})))?;
        let severe = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE");
        Ok(severe.map(|entry| entry["message"].to_string()).collect())
    }

    fn ask(&self, method: &str, what: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let answer = http::request(self.driver, method, &format!("/session/{}/{what}", self.session), body)?;
        let mut value: Value = serde_json::from_slice(&answer.body)?;
        if answer.status != 200 {
            bail!("{what}: {}", value["value"]["message"]);
        }
        Ok(value["value"].take())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that is gone already took its browser with it.
        let _ = http::request(self.driver, "DELETE", &format!("/session/{}", self.session), None);
    }
}

fn said_port(stdout: ChildStdout) -> anyhow::Result<u16> {
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        if let Some((_, rest)) = line.split_once("started successfully on port ") {
            return rest.trim_end_matches('.').parse().with_context(|| line.clone());
        }
    }
    bail!("chromedriver ended without naming its port")
}

/// RFC 4648 §4.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[test]
fn base64_is_undone() {
    for (text, wanted) in
        [("", Some("")), ("aGk=", Some("hi")), ("aGkh", Some("hi!")), ("aGkhIQ==", Some("hi!!")), ("a b", None)]
    {
        assert_eq!(base64(text).as_deref(), wanted.map(str::as_bytes), "{text}");
    }
}
