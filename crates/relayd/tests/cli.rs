//! The program as a shell sees it: exit codes, what it prints, and a whole life of `demo`.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

fn relayd(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relayd"));
    command.args(args).env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("relayd-cli-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = relayd(args).current_dir(&self.0).output().expect("relayd");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status.code(), text(&stdout), text(&stderr))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn commands_end_with_the_codes_of_the_contract() {
    let scratch = Scratch::new("codes");
    let good = scratch.file("good.toml", "[streams.a]\nsource = \"rtsp://u:s3cr3t@127.0.0.1:1/\"\nrecord = \"r\"\n");
    let bad = scratch.file("bad.toml", "[streams.a]\nsorce = \"x\"\n[http]\nlisten = \"0.0.0.0:80\"\n");
    let token = scratch.file("token.toml", "[http]\ntoken_file = \"nowhere\"\n");
    for (args, code, out, err) in [
        (&["check", &good][..], 0, "total  up to", ""),
        (&["check", &bad], 2, "", "bad.toml:2:1: unknown key \"sorce\""),
        (&["check", &bad], 2, "", "bad.toml:4:10: http.listen = \"0.0.0.0:80\""),
        (&["check", &token], 0, "ok", "token.toml:2:14: note: token_file nowhere"),
        (&["run", &token], 2, "", "token_file nowhere"),
        (&["run", &bad], 2, "", "bad.toml:2:1"),
        (&["check", "nowhere.toml"], 2, "", "nowhere.toml"),
        (&["check"], 2, "", "neither relayd.toml nor /etc/relayd/relayd.toml"),
        (&["run"], 2, "", "neither relayd.toml nor /etc/relayd/relayd.toml"),
        (&["schema"], 0, "\"$schema\"", ""),
        (&["launch", "a ! b"], 2, "", "not built yet"),
        (&["probe", "rtsp://u:s3cr3t@127.0.0.1:1/"], 1, "", "rtsp://u:***@127.0.0.1:1/"),
        (&["probe", "srt://u:s3cr3t@127.0.0.1:1/"], 1, "", "not built yet"),
        (&["probe", "u:s3cr3t@127.0.0.1"], 1, "", "is not a URL"),
    ] {
        let (status, stdout, stderr) = scratch.run(args);
        assert_eq!(status, Some(code), "{args:?}: {stdout}{stderr}");
        assert!(stdout.contains(out) && stderr.contains(err), "{args:?}: {stdout}{stderr}");
        assert!(!stdout.contains("s3cr3t") && !stderr.contains("s3cr3t"), "{args:?}: {stdout}{stderr}");
    }
    assert!(!scratch.0.join("r").exists(), "check and probe write nothing");
}

/// A child that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    let scratch = Scratch::new("taken");
    // Held until the end.
    let media = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let page = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let [media, page] = [media.local_addr(), page.local_addr()].map(|address| address.expect("an address"));
    for (http, webrtc, told, advice) in [
        ("127.0.0.1:0".to_owned(), media.to_string(), media, "[webrtc] listen = "),
        (page.to_string(), "127.0.0.1:0".to_owned(), page, "[http] listen"),
    ] {
        let text = format!(
            "[http]\nlisten = \"{http}\"\n[webrtc]\nlisten = \"{webrtc}\"\n[streams.a]\nsource = \"rtsp://127.0.0.1:1/\"\n"
        );
        let file = scratch.file("taken.toml", &text);
        let (status, _, stderr) = scratch.run(&["run", &file]);
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(status, Some(1), "{stderr}");
        assert!(last.contains(&told.to_string()) && last.contains(advice) && last.contains("in use"), "{stderr}");
        assert_eq!(last.matches("in use").count(), 1, "{stderr}");
    }
}

#[test]
fn demo_serves_records_and_stops_in_good_order() {
    let scratch = Scratch::new("demo");
    let mut command = relayd(&["demo", "--listen", "127.0.0.1:0"]);
    command.current_dir(&scratch.0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Running(command.spawn().expect("relayd"));
    let mut lines = BufReader::new(demo.0.stdout.take().expect("stdout")).lines();
    let address = lines.find_map(|line| line.expect("a line").split("http://").nth(1).map(str::to_owned));
    let address = address.expect("the page's URL");
    assert!(get(&address, "/readyz").starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/").contains("<title>relayd</title>"));
    while get(&address, "/api/v1/streams/demo/recordings").ends_with("[]") {
        // Each turn waits for an answer: until the first fragment is on the disk.
    }
    let pid = demo.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
    let status = demo.0.wait().expect("an end");
    let mut log = String::new();
    demo.0.stderr.take().expect("stderr").read_to_string(&mut log).expect("a log");
    assert_eq!(status.code(), Some(0), "{log}");
    for line in log.lines() {
        assert!(line.starts_with("{\"timestamp\":"), "not a terminal, so JSON lines: {line}");
    }
    assert!(log.contains("every sink has finished"), "{log}");
    let recordings = relay_record::list(&scratch.0.join("relayd-demo"), "demo").expect("a list");
    assert_eq!(recordings.len(), 1);
    assert!(recordings[0].finished, "{recordings:?}");
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
