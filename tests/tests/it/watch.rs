//! The live view, in a real browser: how soon its pictures come, how old they are, and that it goes on by itself.
//! Screenshots are kept in `artifacts/`.
//!
//! `cargo test --release -p relay-tests --test it watch -- --nocapture` prints the stages of 20 joins per camera; in a
//! debug build on a busy machine there are fewer, and they may take longer.

mod pictures;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use relay_sim::{CameraConfig, CameraHandle, Clip, ClipSpec, Event, Farm, FarmConfig, Fault};
use relay_tests::browser::Browser;
use relay_tests::process::wait_for;
use relay_tests::relayd::{Relayd, free_port};
use relay_tests::soak::Scratch;
use relay_tests::{needs, root};
use serde_json::Value;

use self::pictures::{Shown, Truth, percentile};

/// Also in a debug build on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// What a debug build that shares two cores with everything else may take, as a multiple of what is promised.
const SLACK: f64 = if cfg!(debug_assertions) { 4.0 } else { 1.0 };
/// Joins per camera.
const JOINS: u32 = if cfg!(debug_assertions) { 8 } else { 20 };
/// From the POST to the first picture, the 95th of 100 joins.
const FIRST_PICTURE_MS: f64 = 500.0;
/// What relayd may take of that.
const RELAYD_SHARE_MS: f64 = 100.0;
/// How far behind live a picture may be from 2 s after joining on.
const BEHIND_MS: f64 = 200.0;
const CAUGHT_UP_MS: f64 = 2_000.0;
/// How long a camera is away.
const AWAY: Duration = Duration::from_secs(10);
/// Frames in the groups of pictures of the RTSP cameras, and in their clips: 4 and 10 s.
const GATE_GOP: u32 = 100;
const LANE_GOP: u32 = 250;

#[test]
fn the_live_view_is_quick_fresh_and_goes_on_by_itself() {
    if needs(&["chromium", "chromedriver"]) {
        watch().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn watch() -> anyhow::Result<()> {
    let mut scene = Scene::set()?;
    // The built-in camera with sound, and an RTSP camera.
    for stream in ["yard", "gate"] {
        scene.watch(stream)?;
    }
    scene.play_without_freezing(&["yard", "gate"])?;
    scene.screenshot("live.png")?;

    let session = "cards.get('gate').live.session.url.href";
    let before = scene.browser.run(&format!("return {session}"))?;
    scene.camera(0)?.inject(Fault::Kill, Some(AWAY));
    scene.browser.wait_until("cards.get('gate').live.words.textContent.startsWith('The camera is away')", SOON)?;
    scene.screenshot("live-away.png")?;
    scene.joins_late_in_a_long_group()?;
    let yard = scene.pictures("yard")?;
    scene.play_without_freezing(&["yard"])?;
    scene.joins_at_random("yard")?;
    scene.goes_on_showing("gate")?;
    scene.pictures("gate")?.are_of(&Truth::of_camera(scene.camera(0)?)?, "gate")?;
    let after = scene.browser.run(&format!("return {session}"))?;
    assert_eq!(after, before, "the session outlives its camera");
    scene.joins_at_random("gate")?;

    scene.restart_relayd()?;
    let told = "cards.get('yard').live.brief.textContent";
    scene.browser.wait_until(&format!("{told}.includes('bit/s') && !{told}.includes(' 0 kbit/s')"), SOON)?;
    let told = scene.browser.run(&format!("return {told}"))?;
    println!("yard, as the page tells it: {told}");
    scene.screenshot("live-again.png")?;
    scene.pictures("gate")?.are_of(&Truth::of_camera(scene.camera(0)?)?, "gate")?;
    let complaints = scene.browser.complaints()?;
    scene.reload()?;
    let Scene { relayd, scratch, .. } = scene;
    relayd.context("it runs")?.stop()?;
    // Recorded before the restart: it began to count anew.
    yard.are_of(&Truth::of_recordings(&scratch.path, "yard")?, "yard")?;
    // What is answered with an error while relayd is away is listed as a complaint, and is none.
    let complaints: Vec<_> = complaints.iter().filter(|complaint| !complaint.contains("Failed to load")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

/// A relayd with three cameras, and a browser that shows its page.
struct Scene {
    browser: Browser,
    relayd: Option<Relayd>,
    config: String,
    farm: Farm,
    scratch: Scratch,
}

impl Scene {
    fn set() -> anyhow::Result<Self> {
        let scratch = Scratch::new("watch")?;
        let clip = |gop_frames| {
            let spec = ClipSpec { width: 320, height: 180, bitrate_bps: 400_000, gop_frames, ..ClipSpec::default() };
            Clip::make(ClipSpec { seconds: gop_frames / 25, ..spec })
        };
        let cameras = vec![CameraConfig::new(vec![clip(GATE_GOP)?]), CameraConfig::new(vec![clip(LANE_GOP)?])];
        let farm = Farm::start(FarmConfig::local(cameras))?;
        let [http, webrtc] = [free_port()?, free_port()?];
        let [gate, lane] = farm.cameras() else { bail!("two cameras were started") };
        let config = format!(
            "[http]\nlisten = \"127.0.0.1:{http}\"\n[webrtc]\nlisten = \"127.0.0.1:{webrtc}\"\n\
             [streams.yard]\nsource = \"test://pattern?size=640x360&fps=25&bitrate=600k&gop=4s&audio=opus\"\n\
             record = {:?}\n[streams.gate]\nsource = {:?}\n[streams.lane]\nsource = {:?}\n",
            scratch.path.join("recordings"),
            gate.url(),
            lane.url()
        );
        let relayd = Relayd::start_with(&scratch.path, &config)?;
        wait_for("relayd at the cameras", SOON, || farm.cameras().iter().all(|it| it.viewers() > 0).then_some(()))?;
        // A new clip begins with a key frame: no need to wait for the old one's next.
        farm.cameras().iter().for_each(|camera| camera.trigger(Event::Clip(0)));
        relayd.await_all_live(SOON)?;
        let browser = Browser::start()?;
        browser.open(&format!("http://{}/", relayd.address()))?;
        browser.wait_until("document.getElementById('summary').textContent == '3 streams, all live'", SOON)?;
        browser.run(include_str!("watch/strip.js"))?;
        Ok(Self { browser, relayd: Some(relayd), config, farm, scratch })
    }

    fn camera(&self, index: usize) -> anyhow::Result<&CameraHandle> {
        self.farm.cameras().get(index).context("no such camera")
    }

    fn screenshot(&self, name: &str) -> anyhow::Result<()> {
        self.browser.screenshot(&root().join("artifacts").join(name))
    }

    /// Presses the button of a stream's card, and reads the counter of every picture from then on.
    fn watch(&self, stream: &str) -> anyhow::Result<()> {
        let press = format!("cards.get('{stream}').node.querySelector('.watch').click(); readStrips('{stream}')");
        self.browser.run(&press)?;
        self.browser.wait_until(&format!("cards.get('{stream}').live.state == 'playing'"), SOON).map(drop)
    }

    fn pictures(&self, stream: &str) -> anyhow::Result<Shown> {
        Shown::parse(&self.browser.run(&format!("return shown['{stream}']"))?)
    }

    /// Two seconds of every stream, by the browser's own count.
    fn play_without_freezing(&self, streams: &[&str]) -> anyhow::Result<()> {
        let video = "[...stats.values()].find(({type, kind}) => type == 'inbound-rtp' && kind == 'video')";
        let look = |stream: &str| {
            let ask = format!("return cards.get('{stream}').live.session.pc.getStats().then(stats => {video})");
            self.browser.run(&ask)
        };
        let frames = |stats: &Value| stats["framesDecoded"].as_u64().unwrap_or(0);
        let before: Vec<_> = streams.iter().map(|stream| look(stream)).collect::<Result<_, _>>()?;
        for (stream, before) in streams.iter().zip(before) {
            let has_played = || look(stream).ok().filter(|now| frames(now) >= frames(&before) + 50);
            let now = wait_for("50 frames", SOON, has_played).with_context(|| format!("{stream}: {before}"))?;
            println!("{stream}: {} frames decoded, {} freezes", frames(&now), now["freezeCount"]);
            assert!(SLACK > 1.0 || now["freezeCount"] == 0, "{stream}: {now}");
        }
        Ok(())
    }

    /// 8 s after a key frame: all that came since is sent at once, and 2 s later the picture is fresh all the same.
    fn joins_late_in_a_long_group(&self) -> anyhow::Result<()> {
        let camera = self.camera(1)?;
        let mut keys = camera.sent().into_iter().flat_map(|session| session.frames).filter(|frame| frame.key);
        let key = keys.next_back().context("no key frame was sent")?.counter;
        let is_late = || (200..230).contains(&((camera.counter() - key) % u64::from(LANE_GOP)));
        wait_for("8 s of a group of pictures", SOON, || is_late().then_some(()))?;
        self.watch("lane")?;
        let post = "performance.timeOrigin + cards.get('lane').live.session.marks.post";
        let post = self.browser.run(&format!("return {post}"))?.as_f64().context("no time")?;
        self.browser.wait_until(&format!("shown.lane.at(-1).at > {} + 1500", post + CAUGHT_UP_MS), SOON)?;
        let truth = Truth::of_camera(camera)?;
        let shown = self.pictures("lane")?;
        shown.are_of(&truth, "lane")?;
        let ages = shown.ages(&truth, post + CAUGHT_UP_MS);
        let all = shown.ages(&truth, 0.0);
        let curve: Vec<_> = all.iter().step_by(5).map(|age| age.round()).collect();
        println!("lane: joined 8 s after a key frame; behind live every fifth picture, ms: {curve:?}");
        let (median, worst) = (percentile(&ages, 50), percentile(&ages, 100));
        println!("lane: from 2 s after joining on {median:.0} ms behind live, at worst {worst:.0} ms");
        assert!(median < BEHIND_MS * SLACK, "{median} ms behind live");
        self.browser.run("cards.get('lane').live.close()").map(drop)
    }

    /// Waits for pictures that weren't there before.
    fn goes_on_showing(&self, stream: &str) -> anyhow::Result<()> {
        let before = self.browser.run(&format!("return shown['{stream}'].length"))?;
        self.browser.wait_until(&format!("shown['{stream}'].length > {before} + 10"), SOON)
    }

    /// Leaves and joins again and again, at moments that have nothing to do with the key frames.
    fn joins_at_random(&self, stream: &str) -> anyhow::Result<()> {
        let mut joins = Vec::new();
        for _ in 0..JOINS {
            joins.push(self.browser.run(&include_str!("watch/join.js").replace("NAME", &format!("'{stream}'")))?);
        }
        println!("{stream}: {JOINS} joins, ms from the POST on: median / p95 / worst");
        for stage in ["answer", "ice", "dtls", "frame"] {
            tell(stage, &values(&joins, &format!("/marks/{stage}")));
        }
        let [answer, ice, connected, key_frame] = ["answer", "ice", "connected", "first_key_frame"]
            .map(|at| values(&joins, &format!("/server/join_ms/{at}")));
        for (stage, values) in [("answer", &answer), ("ICE", &ice), ("DTLS", &connected), ("key frame", &key_frame)] {
            tell(&format!("relayd: {stage}"), values);
        }
        // What the network and the browser take lies between these.
        let own = answer.iter().zip(key_frame.iter().zip(&connected)).map(|(answer, (key, at))| answer + key - at);
        let own: Vec<_> = own.collect();
        let flights: Vec<_> = connected.iter().zip(&ice).map(|(connected, ice)| connected - ice).collect();
        tell("DTLS, both sides", &flights);
        tell("relayd's own", &own);
        let frames = values(&joins, "/marks/frame");
        assert!(frames.len() == JOINS as usize && own.len() == frames.len(), "{joins:?}");
        for (what, values, most) in [("first picture", frames, FIRST_PICTURE_MS), ("relayd's", own, RELAYD_SHARE_MS)] {
            let (p95, most) = (percentile(&values, 95), most * SLACK);
            assert!(p95 <= most, "{stream}: {what} after {p95} ms, promised {most}");
        }
        Ok(())
    }

    /// A page that is loaded again shows what it showed before.
    fn reload(&self) -> anyhow::Result<()> {
        self.browser.run("globalThis.old = true; location.reload()")?;
        let plays = "!globalThis.old && typeof cards == 'object' && cards.get('yard')?.live.state == 'playing'";
        self.browser.wait_until(plays, SOON)
    }

    /// SIGKILL, and the same again on the same ports: nobody touches the page.
    #[allow(clippy::disallowed_methods, reason = "the time is printed, nothing hangs on it")]
    fn restart_relayd(&mut self) -> anyhow::Result<()> {
        for stream in ["yard", "gate"] {
            self.browser.run(&format!("readStrips('{stream}')"))?;
            self.goes_on_showing(stream)?;
        }
        self.relayd.take().context("it runs")?.kill()?;
        self.browser.wait_until("cards.get('yard').live.words.textContent.includes('relayd does not answer')", SOON)?;
        self.screenshot("live-lost.png")?;
        self.relayd = Some(Relayd::start_with(&self.scratch.path, &self.config)?);
        let ready = Instant::now();
        for stream in ["yard", "gate"] {
            self.goes_on_showing(stream)?;
            println!("{stream}: plays again {} ms after relayd was ready", ready.elapsed().as_millis());
        }
        Ok(())
    }
}

fn values(joins: &[Value], pointer: &str) -> Vec<f64> {
    joins.iter().filter_map(|join| join.pointer(pointer)?.as_f64()).collect()
}

fn tell(stage: &str, values: &[f64]) {
    if !values.is_empty() {
        let [median, p95, worst] = [50, 95, 100].map(|percent| percentile(values, percent));
        println!("  {stage:>17}: {median:4.0} / {p95:4.0} / {worst:4.0}");
    }
}
