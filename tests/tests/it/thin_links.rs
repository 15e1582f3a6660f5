//! Viewers behind bad links: what they lose is whole pictures, and it is theirs alone.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use anyhow::{Context, ensure};
use relay_sim::link::{Conditions, Link, LinkConfig};
use relay_sim::whep::{Crowd, CrowdConfig, CrowdReport, Signalling, ViewerReport};
use relay_tests::browser::Browser;
use relay_tests::needs;
use relay_tests::process::wait_for;
use relay_tests::relayd::{Relayd, free_port};
use relay_tests::soak::Scratch;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// What viewers may be behind by default, and what the promise adds for the link's own queue and delay; and, in a debug
/// build on a machine shared with other tests, what those take.
const LAG_MAX: Duration = Duration::from_millis(1_000 + 500 + if cfg!(debug_assertions) { 500 } else { 0 });

/// Long enough for a lagging viewer to jump several times; and to tell one frozen interval a minute from many.
const WATCHED: Duration = Duration::from_secs(15);

/// How long a browser watches behind loss; and how often it may freeze beyond one interval a minute because the debug
/// build and the browser share their cores with all other tests. Without what is told to it, it freezes once a second.
const BROWSED: Duration = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 120 });
const SLACK: f64 = if cfg!(debug_assertions) { 8.0 } else { 0.0 };

fn start(name: &str, source: &str) -> anyhow::Result<(Scratch, Relayd, SocketAddr)> {
    let scratch = Scratch::new(name)?;
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n[streams.yard]\nsource = \"{source}\"\n"
    );
    let relayd = Relayd::start_with(&scratch.path, &config)?;
    let media = wait_for("relayd says where media goes", SOON, || said_media(&relayd.last_words()))?;
    relayd.await_all_live(SOON)?;
    Ok((scratch, relayd, media))
}

/// The address that viewers are told, from the log.
fn said_media(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("viewers are told"))?;
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["listen"].as_str()?.parse().ok()
}

fn join(relayd: &Relayd, via: Option<SocketAddr>) -> anyhow::Result<Crowd> {
    let url = format!("http://{}/whep/yard", relayd.address());
    let crowd = Crowd::start(CrowdConfig::new(Signalling::Whep { url, token: None, via }, 1))?;
    let progress = crowd.await_playing(SOON);
    ensure!(progress.playing == 1, "{progress:?}: {}", relayd.last_words());
    Ok(crowd)
}

fn link(to: SocketAddr, conditions: Conditions) -> anyhow::Result<Link> {
    Ok(Link::start(LinkConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), to, conditions, seed: 7 })?)
}

/// Lets viewers watch for a while.
#[expect(clippy::disallowed_methods, reason = "what happens in that time is what is tested")]
fn watch(time: Duration) {
    sleep(time);
}

fn only(report: CrowdReport) -> anyhow::Result<ViewerReport> {
    println!("{}", report.table());
    let viewer = report.viewers.into_iter().next().context("no viewer")?;
    ensure!(viewer.ended.is_none(), "{:?}", viewer.ended);
    Ok(viewer)
}

#[test]
fn a_bottleneck_at_half_the_bitrate_costs_whole_pictures_and_nobody_else() {
    bottleneck().unwrap_or_else(|error| panic!("{error:#}"));
}

fn bottleneck() -> anyhow::Result<()> {
    let (_scratch, relayd, media) =
        start("bottleneck", "test://pattern?size=640x360&fps=25&bitrate=2M&gop=1s&audio=none")?;
    let half = Conditions {
        rate_bps: Some(1_000_000),
        queue: Duration::from_millis(200),
        delay: Duration::from_millis(10),
        ..Conditions::default()
    };
    let link = link(media, half)?;
    let free = join(&relayd, None)?;
    let thin = join(&relayd, Some(link.addr()))?;
    // The first seconds are for finding out what the link carries.
    watch(Duration::from_secs(3));
    free.begin_window();
    thin.begin_window();
    watch(WATCHED);
    let (thin, free) = (only(thin.leave())?, only(free.leave())?);
    ensure!(free.lost == 0 && free.incomplete == 0 && free.orphans == 0, "the viewer without a bottleneck: {free:?}");
    // A frame that lost a packet for good, or whose references never came, would be seen as garbage.
    ensure!(thin.orphans == 0, "pictures that can't be decoded: {thin:?}");
    ensure!(thin.shown > 50, "hardly anything was shown: {thin:?}");
    ensure!(thin.lost > 0, "nothing was shed: is there a bottleneck? {thin:?}");
    ensure!(thin.most_lag <= LAG_MAX, "late by {:?}: {thin:?}", thin.most_lag);
    relayd.stop()
}

#[test]
fn three_percent_of_loss_hardly_freeze_the_picture() {
    loss().unwrap_or_else(|error| panic!("{error:#}"));
}

fn loss() -> anyhow::Result<()> {
    let (_scratch, relayd, media) = start("loss", "test://pattern?size=640x360&fps=25&bitrate=2M&gop=4s&audio=none")?;
    let lossy = Conditions {
        loss: 0.03,
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        ..Conditions::default()
    };
    let link = link(media, lossy)?;
    let crowd = join(&relayd, Some(link.addr()))?;
    crowd.begin_window();
    watch(WATCHED);
    let viewer = only(crowd.leave())?;
    ensure!(link.passed().lost > 50, "is there loss? {:?}", link.passed());
    // This viewer has no jitter buffer: a repair of a repair is a frozen interval to it. What a browser makes of loss
    // is seen below.
    ensure!(viewer.freezes <= 3, "frozen for more than 200 ms {} times: {viewer:?}", viewer.freezes);
    ensure!(viewer.shown > 300, "{viewer:?}");
    relayd.stop()
}

#[test]
fn a_browser_behind_three_percent_of_loss_does_not_freeze() {
    if needs(&["chromium", "chromedriver"]) {
        behind_loss().unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// Every packet, in both directions, takes 50 to 100 ms and is lost with a probability of 3 %.
fn behind_loss() -> anyhow::Result<()> {
    let lossy = Conditions {
        loss: 0.03,
        delay: Duration::from_millis(50),
        jitter: Duration::from_millis(50),
        ..Conditions::default()
    };
    let scratch = Scratch::new("behind-loss")?;
    let media = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let link = link(media, lossy)?;
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[webrtc]\nlisten = \"{media}\"\nadvertise = [\"{}\"]\n[streams.yard]\n\
         source = \"test://pattern?size=640x360&fps=25&bitrate=2M&gop=4s&audio=none\"\n",
        link.addr()
    );
    let relayd = Relayd::start_with(&scratch.path, &config)?;
    relayd.await_all_live(SOON)?;
    let browser = Browser::start()?;
    browser.open(&format!("http://{}/", relayd.address()))?;
    browser.wait_until("document.getElementById('summary').textContent == '1 stream, live'", SOON)?;
    browser.run("cards.get('yard').node.querySelector('.watch').click()")?;
    browser.wait_until("cards.get('yard').live.state == 'playing'", SOON)?;
    // The first seconds are for finding out how long a repair takes; a jitter buffer grows by 100 ms a second.
    watch(Duration::from_secs(10));
    let before = video_stats(&browser)?;
    watch(BROWSED);
    let after = video_stats(&browser)?;
    let grew = |name: &str| after[name].as_f64().unwrap_or_default() - before[name].as_f64().unwrap_or_default();
    let [decoded, freezes, asked, held] = ["framesDecoded", "freezeCount", "nackCount", "jitterBufferDelay"].map(grew);
    let lost = link.passed().lost;
    println!(
        "{BROWSED:?}: {decoded} frames decoded, {freezes} frozen intervals, {:.1} s in all; {lost} packets lost by the \
         link, {asked} NACKs, {} PLIs; {:.0} ms in the jitter buffer",
        grew("totalFreezesDuration"),
        grew("pliCount"),
        held * 1_000.0 / grew("jitterBufferEmittedCount")
    );
    ensure!(lost > 50, "is there loss? {:?}", link.passed());
    let answer = browser.run("return cards.get('yard').live.session.pc.remoteDescription.sdp")?;
    let told = answer.as_str().is_some_and(|answer| answer.contains("#dependency-descriptor-rtp-header-extension"));
    ensure!(told, "a key frame would overtake pictures that wait for repairs: {answer}");
    let held = held / grew("jitterBufferEmittedCount");
    ensure!((0.25..1.0).contains(&held), "it holds pictures for {held} s: {after}");
    ensure!(decoded > BROWSED.as_secs_f64() * 20.0, "{after}");
    ensure!(freezes <= BROWSED.as_secs_f64() / 60.0 + SLACK, "{freezes} frozen intervals: {after}");
    relayd.stop()
}

fn video_stats(browser: &Browser) -> anyhow::Result<Value> {
    let video = "[...stats.values()].find(({type, kind}) => type == 'inbound-rtp' && kind == 'video')";
    browser.run(&format!("return cards.get('yard').live.session.pc.getStats().then(stats => {video})"))
}
