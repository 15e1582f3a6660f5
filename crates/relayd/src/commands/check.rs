//! `relayd check`: what is wrong with a file, or what it would run and how much memory that may take.

use std::{path::Path, process::ExitCode};

use super::{load, say, say_notes};
use crate::{
    config::{Loaded, Size, VIEWERS, Viewing, WebRtc},
    nodes,
};

pub(super) fn check(path: Option<&Path>) -> anyhow::Result<ExitCode> {
    let Loaded { config, plan, notes } = match load(path) {
        Ok(loaded) => loaded,
        Err(code) => return Ok(code),
    };
    say_notes(&notes);
    say("ok")?;
    let width = config.streams.iter().map(|stream| stream.name.len()).max().unwrap_or(0).max("total".len());
    let memory = nodes::memory(&config, &plan);
    for (stream, memory) in config.streams.iter().zip(&memory) {
        let viewers = stream.webrtc.as_ref().map(|_| VIEWERS);
        let sinks: Vec<&str> = stream.sinks.iter().map(|sink| sink.name.as_str()).chain(viewers).collect();
        let sinks = if sinks.is_empty() { "no sinks".to_owned() } else { sinks.join(", ") };
        let memory = Size(*memory as u64).to_string();
        say(format_args!("{:width$}  up to {memory:>10} of media  {} -> {sinks}", stream.name, stream.source.url))?;
    }
    let total = Size(memory.iter().sum::<usize>() as u64).to_string();
    say(format_args!("{:width$}  up to {total:>10} of media in {} streams", "total", config.streams.len()))?;
    let spools = config.streams.iter().flat_map(|stream| &stream.sinks).filter_map(|sink| sink.kind.spool());
    let (count, bytes) = spools.fold((0, 0_u64), |(count, bytes), spool| (count + 1, bytes.saturating_add(spool)));
    if count > 0 {
        let of = if count == 1 { "the spool of 1 sink".to_owned() } else { format!("the spools of {count} sinks") };
        say(format_args!("and up to {} on disk in {of}", Size(bytes)))?;
    }
    let WebRtc { max_viewers, max_viewers_per_stream, listen, .. } = config.webrtc;
    let places = |viewing: &Viewing| u64::from(viewing.max_viewers.unwrap_or(max_viewers_per_stream));
    let places: u64 = config.streams.iter().filter_map(|stream| stream.webrtc.as_ref()).map(places).sum();
    if places > 0 {
        let places = places.min(max_viewers.into());
        let (each, all) = (Size(VIEWER_MEMORY), Size(VIEWER_MEMORY * places));
        say(format_args!("and about {all} for {places} viewers at {listen}, {each} for each, while they watch"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a viewer may take: its keys, and what was sent to it lately, to be sent again if it is lost.
const VIEWER_MEMORY: u64 = 300 << 10;
