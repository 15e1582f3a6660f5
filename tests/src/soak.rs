//! The long runs. Each has a scale, returns a report, and names every promise that it saw broken.

pub mod cameras;
pub mod churn;
pub mod hls;
pub mod kill;
pub mod kvs;
pub mod kvs_cut;
pub mod viewers;

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a run saw.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A Markdown table.
    pub table: String,
    /// Figures, one a line.
    pub figures: Vec<String>,
    /// Promises broken.
    pub broken: Vec<String>,
}

impl Report {
    /// Notes a promise, kept or broken.
    fn promise(&mut self, is_kept: bool, what: String) {
        if is_kept {
            self.figures.push(format!("kept: {what}"));
        } else {
            self.broken.push(what);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table)?;
        for line in &self.figures {
            writeln!(f, "{line}")?;
        }
        for line in &self.broken {
            writeln!(f, "BROKEN: {line}")?;
        }
        Ok(())
    }
}

/// A folder for one run, emptied before, removed after unless a promise was broken.
#[derive(Debug)]
pub struct Scratch {
    /// Where it lies.
    pub path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// A folder of this process's own.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("relay-{name}-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path)?;
        }
        std::fs::create_dir_all(&path)?;
        Ok(Self { path, keep: false })
    }

    /// Keeps what a broken promise can be understood by.
    pub fn keep(&mut self) {
        self.keep = true;
        println!("kept for a look: {}", self.path.display());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What is left behind lies in the system's folder for such things.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Runs in a folder that stays for a look when anything went wrong.
fn in_scratch(name: &str, run: impl FnOnce(&Path) -> anyhow::Result<Report>) -> anyhow::Result<Report> {
    let mut scratch = Scratch::new(name)?;
    let outcome = run(&scratch.path);
    if !outcome.as_ref().is_ok_and(|report| report.broken.is_empty()) {
        scratch.keep();
    }
    outcome
}

/// The value below which `percent` of the values lie; `None` of none.
fn percentile(values: &[f64], percent: usize) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied()
}

/// Whether a sink's account is whole.
fn adds_up(sink: &Value) -> bool {
    let count = |key: &str| sink[key].as_u64().unwrap_or(u64::MAX / 4);
    let dropped = sink["packets_dropped"].as_object().into_iter().flatten();
    let dropped: u64 = dropped.filter_map(|(_, count)| count.as_u64()).sum();
    count("packets_in") == count("packets_out") + dropped + count("packets_buffered")
}

/// Marsaglia's xorshift64: enough to pick moments by.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}

#[test]
fn percentiles_are_nearest_ranks() {
    let values: Vec<f64> = (1..=20).map(f64::from).collect();
    for (values, percent, wanted) in
        [(&values[..], 95, Some(19.0)), (&values, 50, Some(10.0)), (&values[..1], 95, Some(1.0)), (&[], 95, None)]
    {
        assert_eq!(percentile(values, percent), wanted);
    }
}
