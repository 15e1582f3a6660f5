//! The page, in a real browser: it tells what is going on, and plays a recording. Screenshots are kept in `artifacts/`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use relay_tests::browser::Browser;
use relay_tests::process::wait_for;
use relay_tests::relayd::{Relayd, Stream, segments};
use relay_tests::soak::Scratch;
use relay_tests::{needs, root};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn the_page_shows_every_stream_and_plays_a_recording() {
    if needs(&["chromium", "chromedriver"]) {
        show_and_play().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn show_and_play() -> anyhow::Result<()> {
    let scratch = Scratch::new("page")?;
    let stream =
        |name: &str, url: &str, record: &'static str| Stream { name: name.into(), url: url.into(), source: "", record };
    let camera = "test://pattern?size=640x360&fps=25&bitrate=500k&gop=1s";
    let running = stream("lawn", camera, "segment = \"1h\"");
    let finished = stream("yard", camera, "segment = \"2s\"");
    // Nobody listens on port 9 (discard): the page must say so in words.
    let bad = stream("gate", "rtsp://viewer:s3cret@127.0.0.1:9/gate", "segment = \"2s\"");
    let relayd = Relayd::start(&scratch.path, &[running, finished, bad])?;
    wait_for("a finished segment", SOON, || segments(&scratch.path, "yard").ok().filter(|files| files.len() > 2))?;

    let browser = Browser::start()?;
    browser.open(&format!("http://{}/", relayd.address()))?;
    browser.wait_until("document.getElementById('summary').textContent == '3 streams, 2 live'", SOON)?;
    browser.wait_until("document.body.innerText.includes('refused')", SOON).context("the cause in plain words")?;
    browser.run("document.querySelectorAll('details').forEach(details => details.open = true)")?;
    browser.wait_until("document.querySelectorAll('.files button').length > 2", SOON)?;
    let text = browser.run("return document.documentElement.outerHTML")?.to_string();
    assert!(!text.contains("s3cret"), "a password is on the page");
    let artifacts = root().join("artifacts");
    browser.screenshot(&artifacts.join("page.png"))?;

    // The first listed is the running one, the next the newest of the short ones, which is finished while it plays; the
    // last is the oldest of those, finished. Each is opened as soon as the one before is closed.
    for (which, until, picture) in [
        (-1, "video.currentTime > 0.5", "playback-finished.png"),
        (0, "video.currentTime > 0.5", "playback-running.png"),
        (1, "video.ended", "playback-ended.png"),
        (0, "video.currentTime > 0.5", "playback-running.png"),
    ] {
        play(&browser, which, until, &artifacts.join(picture)).with_context(|| format!("recording {which}"))?;
    }
    let complaints = browser.complaints()?;
    assert!(complaints.is_empty(), "{complaints:?}");
    relayd.stop()
}

/// Opens the recording at this place of the list, waits until it has played so far, and closes it.
fn play(browser: &Browser, which: i32, until: &str, picture: &Path) -> anyhow::Result<()> {
    browser.run(&format!(
        "[...document.querySelectorAll('.files button')].at({which}).click();\
         document.getElementById('video').muted = true;"
    ))?;
    let played = browser.wait_until(
        // A browser that refuses to begin by itself is asked again, as a person would press play.
        &format!(
            "(video => {{ if (video.paused && !video.ended) video.play().catch(() => {{}});\
             return video.error || {until}; }})(document.getElementById('video'))"
        ),
        SOON,
    );
    let seen = browser.run(
        "const video = document.getElementById('video');\
         return {error: video.error && video.error.message, width: video.videoWidth, src: video.currentSrc,\
         time: video.currentTime, duration: video.duration, ready: video.readyState, network: video.networkState}",
    )?;
    played.with_context(|| seen.to_string())?;
    assert!(seen["error"].is_null() && seen["width"] == 640, "{which}: {seen}");
    browser.screenshot(picture)?;
    browser.run("document.getElementById('close').click()").map(drop)
}
