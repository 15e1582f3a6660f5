//! `relayd check`: what is wrong with a file, or what it would run and how much memory that may take.

use std::{path::Path, process::ExitCode};

use super::{load, say, say_notes};
use crate::config::{Loaded, Size};

pub(super) fn check(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let Loaded { config, plan, notes } = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    say_notes(&notes);
    say("ok")?;
    let width = config.streams.iter().map(|stream| stream.name.len()).max().unwrap_or(0).max("total".len());
    for (stream, (name, memory)) in config.streams.iter().zip(plan.memory()) {
        let sinks: Vec<&str> = stream.sinks.iter().map(|sink| sink.name.as_str()).collect();
        let sinks = if sinks.is_empty() { "no sinks".to_owned() } else { sinks.join(", ") };
        let memory = Size(memory as u64).to_string();
        say(format_args!("{name:width$}  up to {memory:>10} of media  {} -> {sinks}", stream.source.url))?;
    }
    let total = Size(plan.memory_max_bytes() as u64).to_string();
    say(format_args!("{:width$}  up to {total:>10} of media in {} streams", "total", config.streams.len()))?;
    Ok(ExitCode::SUCCESS)
}
