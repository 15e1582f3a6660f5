//! `relayd demo`, from nothing to a finished recording: a page, a live stream, and frames that are what they say.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use relay_encode::{Decoder, pattern};
use relay_media::Codec;
use relay_media::stamp::Stamp;
use relay_tests::process::{Process, built, wait_for};
use relay_tests::soak::Scratch;
use relay_tests::{http, needs, recordings};
use rustix::process::Signal;
use serde_json::Value;

use crate::ffprobe::Probed;

/// Also in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// What the daemon promises.
const STOP: Duration = Duration::from_secs(5);
/// Six seconds.
const FRAMES: usize = 150;

#[test]
fn the_demo_shows_records_and_ends_in_good_order() {
    if needs(&["ffmpeg", "ffprobe"]) {
        run().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn run() -> anyhow::Result<()> {
    let scratch = Scratch::new("demo")?;
    let dir = scratch.path.join("recordings");
    let (demo, address) = start(&dir)?;
    for path in ["/", "/player.js"] {
        let page = http::request(address, "GET", path, None)?;
        assert_eq!(page.status, 200, "{}", page.text());
        assert_eq!(external(&page.text()), Vec::<String>::new(), "{path} needs nothing from elsewhere");
    }
    wait_for("the stream is live", SOON, || {
        let answer = http::request(address, "GET", "/api/v1/streams", None).ok()?;
        let streams: Value = serde_json::from_slice(&answer.body).ok()?;
        (answer.status == 200 && streams[0]["state"] == "live").then_some(())
    })?;
    let recording = wait_for("six seconds are recorded", SOON, || {
        let path = only_recording(&dir)?;
        let tracks = relay_mp4::read_samples(&std::fs::read(&path).ok()?).ok()?;
        tracks.iter().any(|track| track.samples.len() >= FRAMES).then_some(path)
    })?;
    let status = demo.stop(Signal::INT, STOP)?;
    assert_eq!(status.code(), Some(0));

    let tracks = Probed::read(&recording)?;
    let [video] = &tracks[..] else { bail!("one track was expected: {tracks:?}") };
    assert_eq!((video.codec.as_str(), video.size), ("h264", Some((1_280, 720))));
    assert!(video.is_in_order() && video.dts.len() >= FRAMES, "{video:?}");
    recordings::decode(&recording)?;
    pictures_show_their_counters(&recording)
}

/// The demo on a port that the system chose, which it prints.
fn start(dir: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = Command::new(built("relayd")?);
    command.args(["demo", "--listen", "127.0.0.1:0", "--dir"]).arg(dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = Process::start(&mut command)?;
    let mut page = None;
    // To the end of the greeting: it fails where nobody reads it.
    for line in BufReader::new(demo.stdout().context("no stdout")?).lines() {
        let line = line?;
        page = page.or(line.split_once("http://").map(|(_, address)| address.to_owned()));
        if line.starts_with("Ctrl-C") {
            break;
        }
    }
    let page = page.context("it names no page")?;
    Ok((demo, page.trim().parse()?))
}

fn only_recording(dir: &Path) -> Option<PathBuf> {
    let paths = std::fs::read_dir(dir.join("demo")).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|extension| extension == "mp4")).collect();
    assert!(paths.len() <= 1, "a file lasts a minute: {paths:?}");
    paths.pop()
}

/// What a page would fetch from other hosts. The name of SVG's namespace looks like an address and is none.
fn external(page: &str) -> Vec<String> {
    let words = page.split(|c: char| c.is_whitespace() || "\"'`<>()".contains(c));
    let schemes = ["http://", "https://", "ws://", "wss://"];
    let is_url = |word: &&str| schemes.iter().any(|scheme| word.contains(scheme));
    let urls = words.filter(is_url).filter(|word| *word != "http://www.w3.org/2000/svg");
    let without_scheme = ["\"//", "'//", "(//", "=//"].into_iter().filter(|start| page.contains(start));
    urls.chain(without_scheme).map(str::to_owned).collect()
}

/// The counter drawn into each picture is the one stamped on the access unit that it was decoded from.
fn pictures_show_their_counters(recording: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(recording)?;
    let tracks = relay_mp4::read_samples(&bytes)?;
    let [video] = &tracks[..] else { bail!("{} tracks", tracks.len()) };
    let Codec::H264(config) = &video.track.codec else { bail!("{:?}", video.track.codec) };
    let mut decoder = Decoder::new()?;
    // Two groups of pictures.
    for (index, sample) in video.samples.iter().take(100).enumerate() {
        let payload = &bytes[sample.range.clone()];
        let stamp = Stamp::find(payload).with_context(|| format!("frame {index} has no counter"))?;
        let picture = decoder.decode(config, payload)?.with_context(|| format!("frame {index} gives no picture"))?;
        let read = pattern::read_counter(&picture).map(u64::from);
        assert_eq!(read, Some(stamp.counter), "frame {index}");
    }
    Ok(())
}

#[test]
fn external_addresses_are_seen() {
    for (page, wanted) in [
        ("<a href=\"/api/v1/streams\"> // a comment", 0),
        ("placeholder=\"rtsp://camera/1\"", 0),
        ("xmlns='http://www.w3.org/2000/svg'", 0),
        ("<script src=\"https://cdn.example/a.js\">", 1),
        ("<script src=\"//cdn.example/a.js\">", 1),
        ("url(http://cdn.example/a.png)", 1),
    ] {
        assert_eq!(external(page).len(), wanted, "{page}");
    }
}
