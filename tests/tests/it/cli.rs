//! The commands that end by themselves, as a shell sees them: exit codes, what is printed, and what never is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use relay_tests::process::built;
use relay_tests::root;
use relay_tests::soak::Scratch;
use serde_json::Value;

/// What a command did.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn relayd(args: &[&str]) -> Done {
    let program = built("relayd").unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new(program);
    let output = command.args(args).env_remove("RUST_LOG").current_dir(root()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{args:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let done = Done { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
    let [stdout, stderr] = [&done.stdout, &done.stderr].map(|text| text.contains("sesame"));
    assert!(!stdout && !stderr, "{args:?} tells a password: {done:?}");
    done
}

fn scratch(name: &str) -> Scratch {
    Scratch::new(name).unwrap_or_else(|error| panic!("{error:#}"))
}

fn write(dir: &Path, text: &str) -> String {
    let path = dir.join("relayd.toml");
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    path.display().to_string()
}

/// The place of each mistake, and a word of what is said about it.
const MISTAKES: &[((usize, usize), &str)] = &[
    ((2, 10), "token_file"),
    ((3, 1), "\"lissen\""),
    ((5, 11), "1 to 256"),
    ((7, 10), "\"rtsp://\""),
    ((8, 1), "did you mean \"record\"?"),
    ((10, 7), "fps"),
    ((11, 17), "\"5s\""),
    ((12, 13), "\"tpc\""),
    ((14, 8), "\"record\""),
    ((18, 11), "60"),
    ((19, 18), "\"50MiB\""),
    ((19, 28), "\"7 days\""),
];

const MISTAKEN: &str = r#"[http]
listen = "0.0.0.0:8080"
lissen = "127.0.0.1:8080"
[runtime]
threads = 0
[streams.front]
source = "rtps://user:sesame@127.0.0.1:1/x"
recrod = "recordings"
[streams.yard.source]
url = "test://pattern?fps=0"
stall_timeout = 5
transport = "tpc"
[streams.yard.sinks.cloud]
type = "floppy"
[streams.yard.sinks.archive]
type = "record"
dir = "recordings"
segment = "60"
keep = { bytes = 50, age = "7 days" }
"#;

#[test]
fn check_and_run_tell_every_mistake_with_its_place() {
    let scratch = scratch("cli-mistakes");
    let file = write(&scratch.path, MISTAKEN);
    for command in ["check", "run"] {
        let done = relayd(&[command, &file]);
        assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{done:?}");
        let mut places = Vec::new();
        for line in done.stderr.lines() {
            let (place, message) = line.strip_prefix(&file).and_then(|rest| rest.split_once(": ")).unwrap_or_default();
            let mut numbers = place.split(':').skip(1).map(|number| number.parse::<usize>().unwrap_or(0));
            let place = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            assert!(place.0 > 0 && place.1 > 0 && !message.is_empty(), "no file:line:column: {line}");
            places.push((place, message));
        }
        let seen: Vec<_> = places.iter().map(|(place, _)| *place).collect();
        let wanted: Vec<_> = MISTAKES.iter().map(|(place, _)| *place).collect();
        assert_eq!(seen, wanted, "{command}:\n{}", done.stderr);
        for ((place, message), (_, word)) in places.iter().zip(MISTAKES) {
            assert!(message.contains(word), "{place:?} without {word}: {message}");
        }
    }
    let written: Vec<_> = std::fs::read_dir(&scratch.path).into_iter().flatten().collect();
    assert_eq!(written.len(), 1, "a bad file makes nothing: {written:?}");
}

#[test]
fn the_example_is_fine() {
    let done = relayd(&["check", "relayd.example.toml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.starts_with("ok\n"), "{done:?}");
}

#[test]
fn the_schema_is_json() {
    let done = relayd(&["schema"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let schema: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    assert!(schema["properties"]["streams"].is_object(), "{schema}");
}

#[test]
fn probe_tells_what_a_source_carries() {
    let done = relayd(&["probe", "--json", "test://pattern"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let video = &report["tracks"][0];
    assert_eq!(video["codec"], "h264", "{report}");
    assert_eq!((&video["width"], &video["height"]), (&Value::from(1_280), &Value::from(720)), "{report}");
    // Measured, so a busy machine may be a tenth off.
    let fps = video["fps"].as_f64().unwrap_or_default();
    assert!((24.5..=25.5).contains(&fps), "{report}");
}

/// Nobody listens on port 1 (tcpmux).
const NOBODY: &str = "rtsp://user:sesame@127.0.0.1:1/x";

#[test]
fn probe_tells_in_plain_words_what_failed() {
    for (url, wanted) in [
        ("rtsp://127.0.0.1:1/", &["rtsp://127.0.0.1:1/", "nothing listens at the camera's address"][..]),
        (NOBODY, &["rtsp://user:***@127.0.0.1:1/x", "nothing listens at the camera's address"]),
        ("rtsps://user:sesame@127.0.0.1:1/x", &["not built yet"]),
        ("user:sesame@127.0.0.1:1/x", &["is not a URL"]),
    ] {
        for verbose in [&[][..], &["-vvv"], &["--json"]] {
            let done = relayd(&[&["probe", url], verbose].concat());
            assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
            let last = done.stderr.lines().last().unwrap_or_default();
            for words in wanted {
                assert!(last.contains(words), "without {words}: {done:?}");
            }
        }
    }
}

/// A whole daemon that can't reach a camera with a password: its log, its page and its API keep it to themselves.
#[test]
fn no_command_tells_a_password() {
    let scratch = scratch("cli-password");
    let file = write(&scratch.path, &format!("[streams.a]\nsource = \"{NOBODY}\"\n"));
    let done = relayd(&["check", &file]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let told = watch(&scratch).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(told.contains("nothing listens") && told.contains("user:***@"), "{told}");
    assert!(!told.contains("sesame"), "{told}");
}

fn watch(scratch: &Scratch) -> anyhow::Result<String> {
    use relay_tests::process::wait_for;
    use relay_tests::relayd::{Relayd, Stream};
    let stream = Stream { name: "a".into(), url: NOBODY.into(), source: "", record: "" };
    let relayd = Relayd::start(&scratch.path, &[stream])?;
    let is_told = || relayd.get("/api/v1/streams").ok().filter(|told| told.contains("nothing listens"));
    let mut told = wait_for("the failure is told", Duration::from_secs(30), is_told)?;
    for path in ["/", "/metrics", "/api/v1/streams/a"] {
        told.push_str(&relayd.get(path)?);
    }
    relayd.stop()?;
    Ok(told + &std::fs::read_to_string(scratch.path.join("relayd.log"))?)
}
