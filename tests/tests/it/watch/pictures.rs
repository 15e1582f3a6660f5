//! The pictures that a browser showed, held against those that a camera made.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use relay_media::stamp::Stamp;
use relay_sim::CameraHandle;
use relay_tests::process::wait_for;
use relay_tests::relayd::segments;
use serde_json::Value;

use super::SOON;

/// The browser's clock was set when the page was loaded, and is coarse.
const CLOCKS_MS: f64 = 20.0;

/// What one live view showed, in order.
pub(super) struct Shown(Vec<Picture>);

struct Picture {
    /// As it is drawn in.
    counter: u32,
    /// When it was handed over for showing: milliseconds since 1970.
    at: f64,
}

impl Shown {
    /// What the script `strip.js` read.
    pub(super) fn parse(list: &Value) -> anyhow::Result<Self> {
        let mut pictures = Vec::new();
        for (index, entry) in list.as_array().context("no list")?.iter().enumerate() {
            // Chromium begins with a black picture of 2 by 2.
            if entry["width"].as_u64().is_some_and(|width| width < 16) {
                continue;
            }
            let counter =
                entry["counter"].as_u64().with_context(|| format!("picture {index} has no counter: {entry}"))?;
            pictures.push(Picture { counter: u32::try_from(counter)?, at: entry["at"].as_f64().context("no time")? });
        }
        Ok(Self(pictures))
    }

    /// Every picture is one that was made before it was shown, and none goes back.
    pub(super) fn are_of(&self, truth: &Truth, stream: &str) -> anyhow::Result<()> {
        let mut newest = f64::MIN;
        for (index, picture) in self.0.iter().enumerate() {
            let made = truth.made(picture);
            let made =
                made.with_context(|| format!("{stream}: picture {index} was never made: {}", picture.counter))?;
            if made < newest {
                bail!("{stream}: picture {index} goes back by {} ms", newest - made);
            }
            newest = made;
        }
        if self.0.is_empty() {
            bail!("{stream}: nothing was shown");
        }
        let ages = self.ages(truth, 0.0);
        let [median, p95, worst] = [50, 95, 100].map(|percent| percentile(&ages, percent));
        let count = ages.len();
        println!(
            "{stream}: {count} pictures, all right; behind live median {median:.0}, p95 {p95:.0}, worst {worst:.0} ms"
        );
        Ok(())
    }

    /// How long before it was shown each picture was made, for those shown from a time on: milliseconds.
    pub(super) fn ages(&self, truth: &Truth, from: f64) -> Vec<f64> {
        let shown = self.0.iter().filter(|picture| picture.at >= from);
        shown.filter_map(|picture| Some(picture.at - truth.made(picture)?)).collect()
    }
}

/// When the pictures with a counter were made, in milliseconds since 1970: a looped clip shows each again and again.
pub(super) struct Truth(BTreeMap<u32, Vec<f64>>);

impl Truth {
    /// What a simulated camera sent, of clips of one group of pictures each: the key frame is drawn as number 0.
    pub(super) fn of_camera(camera: &CameraHandle) -> anyhow::Result<Self> {
        // A frame is logged with the next one.
        let newest = camera.counter();
        wait_for("the next frames", SOON, || (camera.counter() > newest + 2).then_some(()))?;
        let mut made = Vec::new();
        for session in camera.sent() {
            let mut key = None;
            for frame in session.frames {
                key = if frame.key { Some(frame.counter) } else { key };
                made.extend(key.map(|key| (frame.counter - key, frame.utc_nanos)));
            }
        }
        Ok(Self::new(made.into_iter()))
    }

    /// What was recorded of the built-in camera.
    pub(super) fn of_recordings(dir: &Path, stream: &str) -> anyhow::Result<Self> {
        let mut stamps = Vec::new();
        for path in segments(dir, stream)? {
            let bytes = std::fs::read(&path)?;
            for track in relay_mp4::read_samples(&bytes).with_context(|| path.display().to_string())? {
                let samples = track.samples.iter().filter_map(|sample| bytes.get(sample.range.clone()));
                stamps.extend(samples.filter_map(Stamp::find).map(|stamp| (stamp.counter, stamp.utc_nanos)));
            }
        }
        Ok(Self::new(stamps.into_iter()))
    }

    fn new(made: impl Iterator<Item = (u64, i64)>) -> Self {
        let mut truth = Self(BTreeMap::new());
        for (counter, nanos) in made {
            truth.0.entry((counter & u64::from(u32::MAX)) as u32).or_default().push(nanos as f64 / 1e6);
        }
        truth
    }

    fn made(&self, picture: &Picture) -> Option<f64> {
        let times = self.0.get(&picture.counter)?;
        times.iter().copied().filter(|made| *made <= picture.at + CLOCKS_MS).max_by(f64::total_cmp)
    }
}

/// The value below which `percent` of the values lie; infinite of none.
pub(super) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}
