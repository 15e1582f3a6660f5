//! A recording as ffprobe sees it: a second opinion on what relay-mp4 wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// One track, its times in ticks of the track's clock.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    /// By ffmpeg's name: `hevc`, `pcm_alaw`.
    pub(crate) codec: String,
    /// Pixels a row and rows; nothing for sound.
    pub(crate) size: Option<(u64, u64)>,
    /// Whether pictures are shown in another order than they are decoded in.
    pub(crate) is_reordered: bool,
    /// Ticks a second.
    pub(crate) hz: i64,
    /// Decode times, in the file's order.
    pub(crate) dts: Vec<i64>,
    /// Presentation times, sorted.
    pub(crate) pts: Vec<i64>,
}

impl Probed {
    /// The tracks of a file, in their order.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        let entries = "stream=index,codec_name,width,height,has_b_frames,time_base:packet=stream_index,dts,pts";
        let mut ffprobe = Command::new("ffprobe");
        let output = ffprobe.args(["-v", "error", "-of", "json", "-show_entries", entries]).arg(path).output();
        let output = output.context("start ffprobe")?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !said.trim().is_empty() {
            bail!("{}: ffprobe says {}", path.display(), said.trim());
        }
        let seen: Value = serde_json::from_slice(&output.stdout)?;
        let mut tracks: BTreeMap<u64, Self> = BTreeMap::new();
        for stream in seen["streams"].as_array().context("no streams")? {
            let track = tracks.entry(number(&stream["index"])?).or_default();
            track.codec = stream["codec_name"].as_str().unwrap_or_default().to_owned();
            track.size = stream["width"].as_u64().zip(stream["height"].as_u64());
            track.is_reordered = stream["has_b_frames"].as_u64().is_some_and(|frames| frames > 0);
            let hz = stream["time_base"].as_str().and_then(|base| base.strip_prefix("1/")?.parse().ok());
            track.hz = hz.with_context(|| format!("no time base: {stream}"))?;
        }
        for packet in seen["packets"].as_array().context("no packets")? {
            let track = tracks.entry(number(&packet["stream_index"])?).or_default();
            track.dts.push(packet["dts"].as_i64().with_context(|| format!("no dts: {packet}"))?);
            track.pts.push(packet["pts"].as_i64().with_context(|| format!("no pts: {packet}"))?);
        }
        let mut tracks: Vec<_> = tracks.into_values().collect();
        tracks.iter_mut().for_each(|track| track.pts.sort_unstable());
        Ok(tracks)
    }

    /// Whether every decode time is behind the one before.
    pub(crate) fn is_in_order(&self) -> bool {
        self.dts.is_sorted_by(|one, next| one < next)
    }

    /// From the first to the last that is shown or heard, in milliseconds.
    pub(crate) fn span_ms(&self) -> i64 {
        let span = self.pts.first().zip(self.pts.last()).map_or(0, |(first, last)| last - first);
        span * 1_000 / self.hz
    }

    /// The distances between neighbours, in their order of presentation, that are off the usual one by half of it.
    /// What is shown after the last decode time doesn't count: a picture before it may be one that is yet to come.
    pub(crate) fn odd_steps(&self) -> Vec<i64> {
        let settled: Vec<_> = self.pts.iter().filter(|pts| Some(*pts) <= self.dts.last()).collect();
        let steps: Vec<_> = settled.iter().zip(settled.iter().skip(1)).map(|(one, next)| *next - *one).collect();
        let mut sorted = steps.clone();
        sorted.sort_unstable();
        let Some(usual) = sorted.get(sorted.len() / 2) else { return Vec::new() };
        steps.into_iter().filter(|step| (step - usual).abs() * 2 > *usual).collect()
    }
}

fn number(value: &Value) -> anyhow::Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}
