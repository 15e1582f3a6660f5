//! Live HLS as others make it: ffmpeg writes it, nginx serves it, the whole daemon records it. Every picture has a
//! counter, so that what is missing or there twice is seen, to the picture.

mod film;
mod nginx;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use relay_tests::needs;
use relay_tests::process::{Process, wait_for};
use relay_tests::recordings::{Recorded, decode};
use relay_tests::relayd::{Relayd, segments};
use relay_tests::soak::Scratch;
use rustix::process::Signal;

use crate::ffprobe::Probed;
use film::Film;
use nginx::Nginx;

const SOON: Duration = Duration::from_secs(40);

const PLAIN: Film = Film { size: (320, 180), b_frames: 0, seconds: 12, first: 0 };
const REORDERED: Film = Film { b_frames: 2, ..PLAIN };
const LARGE: Film = Film { size: (640, 360), ..PLAIN };
/// What an encoder that is killed would have played.
const LONG: Film = Film { seconds: 40, ..PLAIN };
const LONG_REORDERED: Film = Film { b_frames: 2, ..LONG };
/// What the next encoder plays after a restart.
const NEXT: Film = Film { first: 10_000, seconds: 6, ..PLAIN };
const NEXT_REORDERED: Film = Film { b_frames: 2, ..NEXT };

/// How ffmpeg writes a stream, and what a recording of it must be.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    film: Film,
    /// Beyond segments of one second, all of them listed.
    options: &'static str,
    /// The playlist to begin with.
    playlist: &'static str,
    /// Over HTTP/2 and TLS.
    tls: bool,
}

const TS: Case =
    Case { name: "ts", film: REORDERED, options: "-hls_flags program_date_time", playlist: "live.m3u8", tls: false };
const FMP4: Case = Case { name: "fmp4", options: "-hls_segment_type fmp4", ..TS };
const AES: Case =
    Case { name: "aes", film: PLAIN, options: "-hls_flags periodic_rekey -hls_key_info_file key.info", ..TS };
const RANGES: Case = Case { name: "ranges", film: PLAIN, options: "-hls_flags single_file", ..TS };
const FMP4_RANGES: Case = Case { name: "fmp4-ranges", options: "-hls_segment_type fmp4 -hls_flags single_file", ..TS };
const VARIANTS: Case = Case { name: "variants", film: LARGE, playlist: "master.m3u8", ..TS };
const TLS: Case = Case { name: "tls", tls: true, ..FMP4 };

/// Two pictures and a group of sound; `-map` of the plain film, which comes as the second input.
const VARIANTS_MAP: &str = "-map 0:v -map 1:v -map 0:a -b:v:0 600k -b:v:1 300k -b:a 64k -master_pl_name master.m3u8 \
     -var_stream_map v:0,agroup:sound|v:1,agroup:sound|a:0,agroup:sound,default:yes";

#[test]
fn what_ffmpeg_writes_behind_nginx_is_recorded_whole() {
    if peers_are_here() {
        record(&[TS, FMP4, AES, RANGES, FMP4_RANGES, VARIANTS, TLS]).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn restarts_of_ffmpeg_and_nginx_cost_nothing_that_was_served() {
    if peers_are_here() {
        let appended = Case { name: "appended", options: "-hls_flags append_list+discont_start", film: LONG, ..TS };
        let anew = Case { name: "anew", film: LONG_REORDERED, ..TS };
        let options = "-hls_segment_type fmp4 -hls_start_number_source epoch";
        let numbered = Case { name: "numbered", options, ..anew };
        restart(&[appended, anew, numbered]).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

fn peers_are_here() -> bool {
    needs(&["ffmpeg", "ffprobe", "nginx", "openssl", "setpriv"])
}

fn record(cases: &[Case]) -> anyhow::Result<()> {
    let scratch = Scratch::new("hls-peers")?;
    let nginx = Nginx::start(&scratch.path.join("nginx"))?;
    let mut encoders = Vec::new();
    let films = Films::make(&scratch.path, &[PLAIN, REORDERED, LARGE])?;
    for case in cases {
        encoders.push(encoder(&nginx, case, &films, case.film)?);
    }
    let relayd = start(&scratch.path, &nginx, cases)?;
    for case in cases {
        await_listed(&nginx, case, 2)?;
    }
    for case in cases {
        let ended = || {
            rotate(&nginx, cases).unwrap_or_else(|error| println!("{error:#}"));
            recorded_to(&relayd, &scratch.path, case).filter(|end| *end >= case.film.end())
        };
        let whole = wait_for(&format!("{} is recorded to its end", case.name), SOON, ended);
        whole.with_context(|| told(&relayd))?;
    }
    let told = told(&relayd);
    relayd.stop()?;
    for case in cases {
        look_at(&scratch.path, case).with_context(|| format!("{}\n{told}", case.name))?;
    }
    how_it_was_asked(&nginx, cases)
}

/// That nginx compressed playlists and nothing else, kept connections, and spoke HTTP/2 where it could.
fn how_it_was_asked(nginx: &Nginx, cases: &[Case]) -> anyhow::Result<()> {
    let requests = nginx.requests()?;
    for case in cases {
        let protocol = if case.tls { "HTTP/2.0" } else { "HTTP/1.1" };
        let folder = format!("/{}/", folder(case));
        let asked: Vec<_> = requests.iter().filter(|request| request.path.starts_with(&folder)).collect();
        let mine = || asked.iter().filter(|request| request.protocol == protocol && request.status < 300);
        let playlists = || mine().filter(|request| request.path.ends_with(".m3u8"));
        assert!(playlists().count() > 0 && playlists().all(|request| request.encoding == "gzip"), "{asked:?}");
        assert!(mine().any(|request| request.nth >= 5), "no connection was kept: {asked:?}");
        let media = mine().filter(|request| !request.path.ends_with(".m3u8"));
        assert!(media.into_iter().all(|request| request.encoding == "-"), "{asked:?}");
    }
    Ok(())
}

fn restart(cases: &[Case]) -> anyhow::Result<()> {
    let scratch = Scratch::new("hls-restart")?;
    let mut nginx = Nginx::start(&scratch.path.join("nginx"))?;
    let films = Films::make(&scratch.path, &[LONG, LONG_REORDERED, NEXT, NEXT_REORDERED])?;
    let mut encoders = Vec::new();
    for case in cases {
        encoders.push(encoder(&nginx, case, &films, case.film)?);
    }
    let relayd = start(&scratch.path, &nginx, cases)?;
    relayd.await_all_live(SOON)?;
    for case in cases {
        await_listed(&nginx, case, 3)?;
    }
    nginx.kill()?;
    for case in cases {
        await_listed(&nginx, case, 5)?;
        let says_why = || {
            let streams = relayd.streams().ok()?;
            let stream = streams.into_iter().find(|stream| stream["name"] == case.name)?;
            let cause = stream["source"]["last_error"].as_str()?;
            cause.contains("refused").then_some(())
        };
        wait_for("it is said why nothing comes", SOON, says_why).with_context(|| told(&relayd))?;
    }
    nginx.begin()?;
    for case in cases {
        let caught_up = || recorded_to(&relayd, &scratch.path, case).filter(|end| *end >= 125);
        wait_for(&format!("{} goes on", case.name), SOON, caught_up).with_context(|| told(&relayd))?;
    }
    let mut expected = Vec::new();
    for (case, encoder) in cases.iter().zip(encoders) {
        encoder.stop(Signal::KILL, SOON)?;
        // What is listed is whole; what the encoder was writing is lost with it.
        expected.push(listed(&nginx, case).context("no playlist")? as u64 * u64::from(film::FPS));
    }
    // The next encoder replaces the playlist: what was listed last must have been seen by then.
    for case in cases {
        await_fetched(&nginx, case).with_context(|| told(&relayd))?;
    }
    let mut again = Vec::new();
    for case in cases {
        again.push(encoder(&nginx, case, &films, next(case))?);
    }
    for (case, end) in cases.iter().zip(&expected) {
        let first = first_recorded(&scratch.path, case).context("nothing recorded")?;
        let pictures = (end - first + next(case).pictures()) as f64;
        let done = || packets(&relayd, case).filter(|packets| *packets >= pictures);
        let all = wait_for(&format!("{} is recorded to its end", case.name), SOON, done);
        all.with_context(|| told(&relayd))?;
    }
    let told = told(&relayd);
    relayd.stop()?;
    for (case, end) in cases.iter().zip(expected) {
        let recorded = Recorded::read(&scratch.path, case.name)?;
        assert!(recorded.wrong.is_empty(), "{}: {:?}\n{told}", case.name, recorded.wrong);
        let counters: Vec<_> = recorded.frames.iter().map(|frame| frame.counter).collect();
        let first = *counters.first().context("nothing")?;
        let wanted: Vec<_> = (first..end).chain(next(case).first..next(case).end()).collect();
        assert!(counters == wanted, "{}: {} wanted\n{told}", ranges(&counters), ranges(&wanted));
        recorded.files.iter().try_for_each(|file| decode(file))?;
    }
    Ok(())
}

fn next(case: &Case) -> Film {
    if case.film.b_frames > 0 { NEXT_REORDERED } else { NEXT }
}

/// The films of a test, as files.
struct Films(Vec<(Film, PathBuf)>);

impl Films {
    fn make(dir: &Path, wanted: &[Film]) -> anyhow::Result<Self> {
        let mut films = Vec::new();
        for (index, &film) in wanted.iter().enumerate() {
            films.push((film, film.make(dir, &format!("film{index}"))?));
        }
        Ok(Self(films))
    }

    fn path(&self, film: Film) -> anyhow::Result<&Path> {
        let found = self.0.iter().find(|(known, _)| *known == film);
        Ok(&found.context("no such film")?.1)
    }
}

/// Where a stream's files are; one may be had in two ways.
fn folder(case: &Case) -> &'static str {
    if case.tls { FMP4.name } else { case.name }
}

/// An ffmpeg that plays a film in real time; it ends with it.
fn encoder(nginx: &Nginx, case: &Case, films: &Films, film: Film) -> anyhow::Result<Process> {
    let dir = nginx.root().join(folder(case));
    std::fs::create_dir_all(&dir)?;
    let mut ffmpeg = Command::new("setpriv");
    ffmpeg.args(["--pdeathsig", "KILL", "ffmpeg", "-nostdin", "-v", "error", "-y", "-re", "-i"]).arg(films.path(film)?);
    let mut output = "live.m3u8";
    if case.playlist == "master.m3u8" {
        ffmpeg.args(["-re", "-i"]).arg(films.path(PLAIN)?);
        ffmpeg.args(VARIANTS_MAP.split_whitespace().map(|word| word.replace('|', " ")));
        output = "v%v.m3u8";
    }
    if case.name == AES.name {
        new_key(&dir, 0)?;
    }
    ffmpeg.args(["-c", "copy", "-f", "hls", "-hls_time", "1", "-hls_list_size", "0"]);
    ffmpeg.args(case.options.split_whitespace()).arg(output);
    if case.tls {
        // Its files are another's.
        ffmpeg = Command::new("true");
    }
    let said = std::fs::File::create(dir.join("ffmpeg.log"))?;
    ffmpeg.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
    Process::start(&mut ffmpeg)
}

/// Another key for every third segment.
fn rotate(nginx: &Nginx, cases: &[Case]) -> anyhow::Result<()> {
    for case in cases.iter().filter(|case| case.name == AES.name) {
        let nth = listed(nginx, case).unwrap_or(0) / 3;
        let dir = nginx.root().join(folder(case));
        if !dir.join(format!("{nth}.key")).exists() {
            new_key(&dir, nth)?;
        }
    }
    Ok(())
}

/// What ffmpeg reads before each segment: the key's address, its file.
fn new_key(dir: &Path, nth: usize) -> anyhow::Result<()> {
    let name = format!("{nth}.key");
    std::fs::write(dir.join(&name), format!("{nth:016}"))?;
    std::fs::write(dir.join("key.new"), format!("{name}\n{name}\n"))?;
    Ok(std::fs::rename(dir.join("key.new"), dir.join("key.info"))?)
}

/// Segments in a stream's playlist.
fn listed(nginx: &Nginx, case: &Case) -> Option<usize> {
    let name = if case.playlist == "master.m3u8" { "v0.m3u8" } else { case.playlist };
    let text = std::fs::read_to_string(nginx.root().join(folder(case)).join(name)).ok()?;
    Some(text.matches("#EXTINF").count())
}

fn await_listed(nginx: &Nginx, case: &Case, segments: usize) -> anyhow::Result<()> {
    let enough = || listed(nginx, case).filter(|count| *count >= segments);
    let found = wait_for(&format!("{segments} segments of {}", case.name), SOON, enough);
    let log = nginx.root().join(folder(case)).join("ffmpeg.log");
    found.map(drop).with_context(|| std::fs::read_to_string(log).unwrap_or_default())
}

/// Waits until the segment that is listed last has been had.
fn await_fetched(nginx: &Nginx, case: &Case) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(nginx.root().join(folder(case)).join(case.playlist))?;
    let last = text.lines().rfind(|line| !line.starts_with('#')).context("nothing is listed")?;
    let path = format!("/{}/{last}", folder(case));
    let is_it = |request: &nginx::Request| request.path == path && request.status < 300;
    let fetched = || nginx.requests().ok()?.iter().any(is_it).then_some(());
    wait_for(&format!("{path} was asked for"), SOON, fetched)
}

fn start(dir: &Path, nginx: &Nginx, cases: &[Case]) -> anyhow::Result<Relayd> {
    let mut text = String::from("[http]\nlisten = \"127.0.0.1:0\"\n[webrtc]\nlisten = \"127.0.0.1:0\"\n");
    for case in cases {
        let path = format!("{}/{}", folder(case), case.playlist);
        let url = if case.tls { nginx.tls_url(&path) } else { nginx.url(&path) };
        writeln!(text, "\n[streams.{}.source]\nurl = {url:?}", case.name)?;
        if case.tls {
            writeln!(text, "ca_file = {:?}", nginx.authority())?;
        }
        writeln!(text, "[streams.{}.sinks.archive]\ntype = \"record\"\ndir = {:?}", case.name, dir.join("recordings"))?;
    }
    Relayd::start_with(dir, &text)
}

fn packets(relayd: &Relayd, case: &Case) -> Option<f64> {
    relayd.metric(&format!("relayd_source_packets_total{{stream=\"{}\",kind=\"video\"}}", case.name)).ok()
}

fn first_recorded(dir: &Path, case: &Case) -> Option<u64> {
    let file = segments(dir, case.name).ok()?.into_iter().next()?;
    Recorded::of(&file).ok()?.range().map(|(first, _)| first)
}

/// The counter after the last picture that has come, if none is missing.
fn recorded_to(relayd: &Relayd, dir: &Path, case: &Case) -> Option<u64> {
    Some(first_recorded(dir, case)? + packets(relayd, case)? as u64)
}

/// Looks at the recording of a film that was recorded to its end without a break.
fn look_at(dir: &Path, case: &Case) -> anyhow::Result<()> {
    let recorded = Recorded::read(dir, case.name)?;
    ensure!(recorded.wrong.is_empty(), "{:?}", recorded.wrong);
    let counters: Vec<_> = recorded.frames.iter().map(|frame| frame.counter).collect();
    let wanted: Vec<_> = (*counters.first().context("nothing")?..case.film.end()).collect();
    ensure!(counters == wanted, "{} is recorded, not {}", ranges(&counters), ranges(&wanted));
    ensure!(recorded.sizes == [case.film.size].into(), "{:?}", recorded.sizes);
    let [file] = &recorded.files[..] else { bail!("nothing broke it: {:?}", recorded.files) };
    let [video, sound] = &Probed::read(file)?[..] else { bail!("not two tracks") };
    ensure!((video.codec.as_str(), sound.codec.as_str()) == ("h264", "aac"), "{} {}", video.codec, sound.codec);
    ensure!(video.is_reordered == (case.film.b_frames > 0), "its order is another");
    ensure!(video.is_in_order() && sound.is_in_order(), "decode times stand still or go back");
    let odd = [video.odd_steps(), sound.odd_steps()].concat();
    ensure!(odd.is_empty(), "pictures or sounds are missing: {odd:?}");
    let apart = video.span_ms() - sound.span_ms();
    ensure!(apart.abs() < 500, "pictures and sound last {} and {} ms", video.span_ms(), sound.span_ms());
    decode(file)
}

/// Counters as ranges: `0-24 50-99`.
fn ranges(counters: &[u64]) -> String {
    let runs = counters.chunk_by(|one, next| *next == one + 1);
    let told = runs.map(|run| format!("{}-{}", run.first().unwrap_or(&0), run.last().unwrap_or(&0)));
    told.collect::<Vec<_>>().join(" ")
}

fn told(relayd: &Relayd) -> String {
    let streams = relayd.get("/api/v1/streams").unwrap_or_default();
    [streams, relayd.last_words()].join("\n")
}
