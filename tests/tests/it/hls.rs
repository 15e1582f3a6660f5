//! Origins that misbehave, through the whole daemon: each fault is named, nothing is lost that could be had, nothing is
//! recorded twice, and no stream begins anew.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use relay_sim::Clip;
use relay_sim::hls_origin::{Container, HlsOrigin, OriginConfig, OriginLine, OriginTrouble};
use relay_tests::farm::{Picture, clip};
use relay_tests::needs;
use relay_tests::origin::Verdict;
use relay_tests::process::wait_for;
use relay_tests::recordings::{Recorded, decode};
use relay_tests::relayd::{Relayd, Stream};
use relay_tests::soak::Scratch;

/// Small, and a group of pictures a second: a segment.
const PICTURE: Picture = Picture { width: 160, height: 96, bitrate_bps: 100_000, gop_frames: 25 };
/// For anything that happens at all, on a machine that is busy.
const SOON: Duration = Duration::from_secs(40);
/// A segment that could be had for so long is owed: half of the time for which it is listed.
const ENOUGH: Duration = Duration::from_secs(3);
/// After a fault, each stream goes on for so many frames.
const AFTER: u64 = 50;

/// An origin, what happens to it, and the words by which the daemon tells.
struct Row {
    name: &'static str,
    /// Changes of the origin that [`OriginConfig::local`] makes.
    config: fn(OriginConfig) -> OriginConfig,
    trouble: &'static str,
    causes: &'static [&'static str],
}

const fn row(name: &'static str, trouble: &'static str, causes: &'static [&'static str]) -> Row {
    Row { name, config: |config| config, trouble, causes }
}

#[test]
fn answers_that_fail_cost_what_could_not_be_had() {
    hold(&[
        row("unavailable", "503:9s", &["http_5xx", "fell_behind"]),
        row("refused", "refuse:5s", &["connect"]),
        row("stalled", "stall=segments:5s", &["quiet"]),
        row("stalled-playlists", "stall=playlists:5s", &["quiet"]),
        row("slow", "slow:6s", &["trickle"]),
        row("cut", "cut:5s", &["reset"]),
        row("truncated", "truncate:5s", &["truncated"]),
        row("short", "short:5s", &["truncated"]),
        row("pages", "html=segments:5s", &["not_media"]),
        row("page-for-playlist", "html=playlists:5s", &["not_playlist"]),
        row("unauthorized", "401=segments:4s", &["http_401"]),
        row("forbidden", "403=segments:4s", &["http_403"]),
        row("not-found", "404=segments:4s", &["http_404"]),
        row("gone", "410=segments:4s", &["http_410"]),
        row("closing", "close:5s", &[]),
        row("redirecting", "redirects:5s", &["redirects"]),
        row("giant", "giant:5s", &["too_large"]),
        Row { config: keys, ..row("no-keys", "503=keys:5s", &["http_5xx"]) },
        Row { config: fmp4, ..row("fmp4-cut", "cut:5s", &["reset"]) },
        Row { config: ranges, ..row("ranges-cut", "cut:5s", &["reset"]) },
        Row { config: no_ranges, ..row("no-ranges-cut", "cut:5s", &["reset"]) },
        Row { config: parts, ..row("parts-cut", "cut:5s", &["reset"]) },
    ]);
}

#[test]
fn playlists_that_change_their_mind_are_followed() {
    hold(&[
        row("well", "clear", &[]),
        row("frozen", "frozen:8s", &["playlist_frozen"]),
        row("reset", "reset", &["sequence_back"]),
        row("reset-names-again", "reset=same", &["sequence_back"]),
        row("leap", "leap=1000", &["sequence_leap"]),
        row("storm", "storm:5s", &[]),
        row("gaps", "gaps:6s", &["gap_tag"]),
        Row { config: two, ..row("vanished", "vanish=0:9s", &["http_404", "variant_switched"]) },
        Row { config: signed, ..row("expired-401", "expire=401", &["http_401"]) },
        Row { config: signed, ..row("expired-403", "expire=403", &["http_403"]) },
        Row { config: signed, ..row("expired-404", "expire=404", &["http_404"]) },
        Row { config: signed, ..row("expired-410", "expire=410", &["http_410"]) },
        Row { config: keys, ..row("key-rotation", "rotate", &[]) },
        Row { config: keys, ..row("keys-reset", "reset", &["sequence_back"]) },
        Row { config: fmp4, ..row("fmp4-reset", "reset", &["sequence_back"]) },
        Row { config: fmp4, ..row("fmp4-storm", "storm:5s", &[]) },
        Row { config: no_wall, ..row("no-wall-reset", "reset", &["sequence_back"]) },
        Row { config: parts, ..row("parts", "clear", &[]) },
    ]);
}

fn keys(config: OriginConfig) -> OriginConfig {
    OriginConfig { key_segments: Some(2), ..config }
}

fn fmp4(config: OriginConfig) -> OriginConfig {
    OriginConfig { container: Container::Fmp4, ..config }
}

fn ranges(config: OriginConfig) -> OriginConfig {
    OriginConfig { file_segments: Some(5), ..config }
}

fn no_ranges(config: OriginConfig) -> OriginConfig {
    OriginConfig { has_ranges: false, ..config }
}

fn no_wall(config: OriginConfig) -> OriginConfig {
    OriginConfig { has_wall: false, ..config }
}

fn parts(config: OriginConfig) -> OriginConfig {
    OriginConfig { part_frames: Some(5), ..config }
}

fn signed(config: OriginConfig) -> OriginConfig {
    OriginConfig { has_master: true, is_signed: true, ..config }
}

fn two(mut config: OriginConfig) -> OriginConfig {
    let better = Picture { width: 320, height: 192, bitrate_bps: 300_000, ..PICTURE };
    config.variants = clip(better).into_iter().chain(config.variants).collect();
    OriginConfig { has_master: true, ..config }
}

fn hold(rows: &[Row]) {
    if needs(&["ffmpeg"]) {
        run(rows).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

/// All rows at once: an origin and a stream each.
fn run(rows: &[Row]) -> anyhow::Result<()> {
    let mut scratch = Scratch::new(rows.first().map_or("hls", |row| row.name))?;
    let clip = clip(PICTURE)?;
    let start = |row: &Row| Ok(HlsOrigin::start((row.config)(OriginConfig::local(vec![Arc::<Clip>::clone(&clip)])))?);
    let origins: Vec<HlsOrigin> = rows.iter().map(start).collect::<anyhow::Result<_>>()?;
    let stream = |(row, origin): (&Row, &HlsOrigin)| Stream {
        name: row.name.into(),
        url: origin.url(),
        source: "",
        record: "segment = \"10s\"",
    };
    let streams: Vec<Stream> = rows.iter().zip(&origins).map(stream).collect();
    let relayd = Relayd::start(&scratch.path, &streams)?;
    relayd.await_all_live(SOON)?;
    let mut overs = Vec::new();
    for (row, origin) in rows.iter().zip(&origins) {
        let OriginLine { trouble, .. } = row.trouble.parse()?;
        let lasts = if let OriginTrouble::Fault(_, Some(lasts)) = trouble { lasts } else { Duration::ZERO };
        overs.push(origin.counter() + lasts.as_millis() as u64 / 40);
        origin.happen(trouble);
    }
    for ((row, origin), over) in rows.iter().zip(&origins).zip(overs) {
        let name = format!("{} goes on after it", row.name);
        wait_for(&name, SOON, || has_gone_on(origin, over).then_some(()))
            .with_context(|| format!("{}\n{}", told(&relayd, row), relayd.last_words()))?;
    }
    let metrics = relayd.get("/metrics")?;
    relayd.stop()?;
    let mut wrong = Vec::new();
    for (row, origin) in rows.iter().zip(&origins) {
        judge(&scratch.path, row, origin, &metrics, &mut wrong)?;
    }
    if !wrong.is_empty() {
        scratch.keep();
        bail!("\n{}", wrong.join("\n"));
    }
    Ok(())
}

/// Segments have been served that begin well after the trouble was over.
fn has_gone_on(origin: &HlsOrigin, over: u64) -> bool {
    origin.segments().iter().any(|segment| segment.is_served && segment.first >= over + AFTER)
}

fn told(relayd: &Relayd, row: &Row) -> String {
    let streams = relayd.streams().unwrap_or_default();
    streams.iter().find(|stream| stream["name"] == row.name).map(ToString::to_string).unwrap_or_default()
}

fn judge(dir: &Path, row: &Row, origin: &HlsOrigin, metrics: &str, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let name = row.name;
    // What was sent last counts once the daemon has closed its connections in order.
    wait_for("connections are closed", SOON, || (origin.connections() == 0).then_some(()))?;
    let recorded = Recorded::read(dir, name)?;
    let verdict = Verdict::of(&origin.segments(), &recorded, ENOUGH);
    let counted = |sample: &str| {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(sample)?.rsplit_once(' '));
        lines.filter_map(|(_, value)| value.parse::<f64>().ok()).sum::<f64>()
    };
    let failures =
        |reason: &str| counted(&format!("relayd_source_failures_total{{stream=\"{name}\",reason=\"{reason}\"}}"));
    let unnamed = row.causes.iter().filter(|cause| failures(cause) == 0.0);
    wrong.extend(unnamed.map(|cause| format!("{name}: {cause} is not named")));
    if failures("panic") + counted(&format!("relayd_sink_restarts_total{{stream=\"{name}\"")) > 0.0 {
        wrong.push(format!("{name}: something was begun anew"));
    }
    let reasons: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("relayd_source_failures_total{{stream=\"{name}\",reason=")))
        .collect();
    println!("{name}: {} served, {} recorded once, {} gaps, {reasons:?}", verdict.served, verdict.once, verdict.gaps);
    wrong.extend(recorded.wrong.iter().chain(&verdict.wrong(25)).map(|what| format!("{name}: {what}")));
    for file in &recorded.files {
        wrong.extend(decode(file).err().map(|error| format!("{name}: {error}")));
    }
    Ok(())
}

/// No origin is needed for these.
#[test]
fn names_and_certificates_that_fail_are_named() {
    names_and_certificates().unwrap_or_else(|error| panic!("{error:#}"));
}

fn names_and_certificates() -> anyhow::Result<()> {
    let scratch = Scratch::new("hls-names")?;
    let origin = HlsOrigin::start(OriginConfig::local(vec![clip(PICTURE)?]))?;
    let stream = |name: &str, url: String| Stream { name: name.into(), url, source: "", record: "" };
    let streams = [
        stream("no-name", "http://no-such-host.invalid/live.m3u8".into()),
        stream("no-tls", origin.url().replace("http://", "https://")),
    ];
    let relayd = Relayd::start(&scratch.path, &streams)?;
    for (name, cause) in [("no-name", "dns"), ("no-tls", "tls")] {
        let sample = format!("relayd_source_failures_total{{stream=\"{name}\",reason=\"{cause}\"}}");
        let tries = || relayd.metric(&sample).ok().filter(|tries| *tries >= 2.0);
        wait_for(&sample, SOON, tries).with_context(|| relayd.last_words())?;
    }
    relayd.stop()
}
