//! A Kinesis sink whose service is not there: what the API, the metrics and standard output tell, and a clean end.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

/// Anything takes less, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running relayd and its directory.
struct Running {
    relayd: Child,
    dir: PathBuf,
    page: String,
    metrics: mpsc::Receiver<Value>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.relayd.kill();
        let _ = self.relayd.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Running {
    fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("relayd-kvs-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        // Nobody listens on port 9 (discard).
        let config = "[http]\nlisten = \"127.0.0.1:0\"\n[streams.yard]\nwebrtc = false\n\
            source = \"test://pattern?size=160x120&fps=5&gop=1s\"\n[streams.yard.sinks.cloud]\ntype = \"kvs\"\n\
            stream_name = \"front\"\nregion = \"eu-west-1\"\nendpoint = \"http://127.0.0.1:9\"\nfragment = \"1s\"\n\
            emf = \"1s\"\nspool = { dir = \"spool\" }\n";
        fs::write(dir.join("relayd.toml"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_relayd"));
        command.args(["run", "relayd.toml"]).current_dir(&dir).env_remove("RUST_LOG").stdin(Stdio::null());
        command
            .env("NO_PROXY", "127.0.0.1")
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "s3cr3t-key");
        let mut relayd = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(relayd.stderr.take().unwrap()).lines();
        let page = log.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            line.get("page").and_then(Value::as_str).map(|page| page.replace("http://", ""))
        });
        // Someone has to read it.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(|line| assert!(!line.contains("s3cr3t"))));
        let (told, metrics) = mpsc::sync_channel(64);
        let lines = BufReader::new(relayd.stdout.take().unwrap()).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = told.try_send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { relayd, dir, page: page.unwrap(), metrics }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.page).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.page).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        body.to_owned()
    }
}

#[test]
fn an_outage_is_told_everywhere_and_what_is_left_is_spooled() {
    let mut running = Running::start();
    // Metrics for CloudWatch, until some of them tell of an outage.
    let line = loop {
        let line = running.metrics.recv_timeout(PATIENCE).unwrap();
        if line.get("Reconnects").and_then(Value::as_u64) > Some(0) {
            break line;
        }
    };
    assert_eq!(line.pointer("/StreamName").and_then(Value::as_str), Some("front"), "{line}");
    let namespace = line.pointer("/_aws/CloudWatchMetrics/0/Namespace").and_then(Value::as_str);
    assert_eq!(namespace, Some("relayd/kvs"), "{line}");

    let stream: Value = serde_json::from_str(&running.get("/api/v1/streams/yard")).unwrap();
    let of = |path: &str| stream.pointer(&format!("/sinks/0/{path}")).unwrap_or_else(|| panic!("{path}: {stream}"));
    let told = of("last_error").as_str().unwrap();
    assert!(told.contains("GetDataEndpoint") && told.contains("no connection to the service"), "{told}");
    assert_eq!((of("type"), of("state")), (&Value::from("kvs"), &Value::from("backoff")));
    assert!(of("kvs/reconnects/connect").as_u64() > Some(0) && of("kvs/buffered_fragments").as_u64() > Some(0));
    let (packets_in, buffered) = (of("packets_in").as_u64(), of("packets_buffered").as_u64());
    assert_eq!((packets_in, of("packets_out").as_u64()), (buffered, Some(0)), "{stream}");

    let metrics = running.get("/metrics");
    for name in [
        "relayd_kvs_reconnects_total{stream=\"yard\",sink=\"cloud\",cause=\"connect\"}",
        "relayd_kvs_buffered_seconds{",
    ] {
        assert!(metrics.contains(name), "{name} in {metrics}");
    }

    let pid = rustix::process::Pid::from_child(&running.relayd);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.relayd.wait().unwrap().code(), Some(0));
    let spool = running.dir.join("spool/eu-west-1/front");
    let files: Vec<_> = fs::read_dir(&spool).unwrap().map(|file| file.unwrap().path()).collect();
    let kept = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "fragments"));
    assert!(kept.map(|file| file.metadata().unwrap().len()).sum::<u64>() > 0, "{files:?}");
}
