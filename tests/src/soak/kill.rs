//! relayd is killed at random moments: every file plays up to its last whole fragment, a kill costs at most one
//! fragment, and the next start mends the tails.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use relay_sim::{CameraConfig, CameraHandle, Farm, FarmConfig};

use super::{Chance, Report, percentile};
use crate::farm::{Picture, clip, utc_nanos};
use crate::recordings::{Recorded, decode};
use crate::relayd::{Relayd, Stream, segments};

/// How large a run is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Kills.
    pub kills: usize,
    /// Cameras that are recorded meanwhile.
    pub cameras: usize,
    /// Where chance begins; printed with the report.
    pub seed: u64,
}

/// Frames of a fragment: `fragment = "1s"` at 25 fps.
const FRAGMENT_FRAMES: u64 = 25;
/// Frames on their way into a fragment: one that is held back until the next tells its duration, and 200 ms of
/// sending, assembling and writing on a busy machine.
const FRAMES_ON_THEIR_WAY: u64 = 1 + 5;

/// Runs it.
///
/// # Errors
/// When it can't be run; what it sees go wrong is in the report.
pub fn run(scale: &Scale) -> anyhow::Result<Report> {
    super::in_scratch("soak-kill", |dir| run_in(dir, scale))
}

fn run_in(dir: &Path, scale: &Scale) -> anyhow::Result<Report> {
    let picture = clip(Picture::SMALL)?;
    let cameras = (0..scale.cameras).map(|_| CameraConfig::new(vec![picture.clone()])).collect();
    let farm = Farm::start(FarmConfig::local(cameras)).context("start the cameras")?;
    let streams = streams(&farm);
    let mut chance = Chance(scale.seed);
    let mut report = Report::default();
    let mut losses = Vec::new();
    for kill in 0..scale.kills {
        let relayd = Relayd::start(dir, &streams).with_context(|| format!("start {kill}"))?;
        relayd.await_all_live(Duration::from_secs(20))?;
        // At any point of the cycle of fragments and key frames, the first of them included.
        std::thread::sleep(Duration::from_millis(chance.below(4_000)));
        let killed = utc_nanos();
        relayd.kill()?;
        for (camera, stream) in farm.cameras().iter().zip(&streams) {
            match examine(dir, camera, stream, killed) {
                Ok(loss) => losses.push(loss),
                Err(error) => report.broken.push(format!("kill {kill}, {}: {error:#}", stream.name)),
            }
        }
    }
    report.table =
        "| killed | recordings | frames lost, median | p95 | worst | a fragment |\n|---|---|---|---|---|---|\n".into();
    tell(&mut report, "in a file", &losses, true);
    tell(&mut report, "before the first file", &losses, false);
    report.figures.push(format!("{} kills, seed {}", scale.kills, scale.seed));
    mended(dir, &streams, &mut report)?;
    Ok(report)
}

fn tell(report: &mut Report, when: &str, losses: &[Loss], begun: bool) {
    let frames: Vec<_> = losses.iter().filter(|loss| loss.begun == begun).map(|loss| loss.frames).collect();
    let Some(worst) = percentile(&frames, 100) else { return };
    let most = FRAGMENT_FRAMES + FRAMES_ON_THEIR_WAY;
    let [median, p95] = [50, 95].map(|percent| percentile(&frames, percent).unwrap_or(worst));
    report.table += &format!("| {when} | {} | {median} | {p95} | {worst} | {FRAGMENT_FRAMES} |\n", frames.len());
    report.promise(worst <= most as f64, format!("a kill {when} costs {worst} frames at worst, promised {most}"));
}

fn streams(farm: &Farm) -> Vec<Stream> {
    let stream = |(index, camera): (usize, &CameraHandle)| Stream {
        name: format!("cam{index:03}"),
        url: camera.url(),
        source: "",
        record: "fragment = \"1s\"",
    };
    farm.cameras().iter().enumerate().map(stream).collect()
}

/// What a kill cost one stream.
#[derive(Clone, Copy)]
struct Loss {
    frames: f64,
    /// The session had a file by then.
    begun: bool,
}

/// Looks at what a kill left of a stream, and says how many frames of the session it cost.
fn examine(dir: &Path, camera: &CameraHandle, stream: &Stream, killed: i64) -> anyhow::Result<Loss> {
    let sessions = camera.sent();
    let session = sessions.last().context("the camera was never watched")?;
    let decodable = session.frames.iter().skip_while(|frame| !frame.key);
    let sent: Vec<u64> = decodable.filter(|frame| frame.utc_nanos <= killed).map(|frame| frame.counter).collect();
    let (Some(first), Some(last)) = (sent.first(), sent.last()) else { bail!("no key frame was sent") };

    let mut recorded_to = None;
    if let Some(file) = segments(dir, &stream.name)?.pop() {
        let recorded = Recorded::of(&file)?;
        if let Some(wrong) = recorded.wrong.first() {
            bail!("{wrong}");
        }
        // An independent reader, on the torn file as it is.
        let seen = count_packets(&file)?;
        if seen < recorded.frames.len() as u64 {
            bail!("ffprobe sees {seen} frames of {} in {}", recorded.frames.len(), file.display());
        }
        recorded_to = recorded.range().map(|(_, end)| end);
    }
    // The file may be an earlier session's: then nothing of this one was recorded yet.
    let (begun, next) = match recorded_to {
        Some(end) if end >= *first => (true, end + 1),
        _ => (false, *first),
    };
    Ok(Loss { frames: (last + 1).saturating_sub(next) as f64, begun })
}

/// One more start mends the last tails; then every file must be whole, and decode to its last frame.
fn mended(dir: &Path, streams: &[Stream], report: &mut Report) -> anyhow::Result<()> {
    let torn: Vec<_> = streams.iter().map(|stream| Recorded::read(dir, &stream.name)).collect::<Result<_, _>>()?;
    let relayd = Relayd::start(dir, streams)?;
    relayd.await_all_live(Duration::from_secs(20))?;
    relayd.stop()?;
    let mut files = 0;
    for (stream, torn) in streams.iter().zip(torn) {
        let whole = Recorded::read(dir, &stream.name)?;
        report.broken.extend(whole.wrong.iter().map(|wrong| format!("{}: {wrong}", stream.name)));
        let kept = torn.frames.iter().filter(|frame| whole.contains(frame.counter)).count();
        if kept < torn.frames.len() {
            report.broken.push(format!("{}: mending lost {} frames", stream.name, torn.frames.len() - kept));
        }
        for file in &whole.files {
            files += 1;
            if relay_mp4::finished_moov_offset(&head(file)?).is_none() {
                report.broken.push(format!("{} was never finished", file.display()));
            }
            if let Err(error) = decode(file) {
                report.broken.push(format!("{error:#}"));
            }
        }
    }
    report.figures.push(format!("{files} files mended or finished, every frame decoded by ffmpeg -xerror"));
    Ok(())
}

fn head(file: &Path) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(relay_mp4::FINISHED_HEAD_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn count_packets(file: &Path) -> anyhow::Result<u64> {
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "quiet", "-select_streams", "v:0", "-count_packets"]);
    ffprobe.args(["-show_entries", "stream=nb_read_packets", "-of", "csv=p=0"]).arg(file);
    let said = String::from_utf8_lossy(&ffprobe.output().context("start ffprobe")?.stdout).into_owned();
    said.trim().trim_end_matches(',').parse().with_context(|| format!("ffprobe says {said:?}"))
}
