//! `relayd demo`: the built-in camera, its page and its recordings, from nothing.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::{Context, anyhow};

use super::{run::start, say};
use crate::{
    cli::Demo,
    config::{self, WEBRTC_LISTEN},
    keys::Keys,
};

/// What most cameras send.
const SOURCE: &str = "test://pattern?size=1280x720&fps=25&bitrate=2M&gop=2s";

pub(super) fn demo(options: &Demo, verbose: u8) -> anyhow::Result<ExitCode> {
    let dir = options.dir.to_str().context("--dir must be UTF-8")?;
    // A JSON string is a TOML string.
    let quoted = serde_json::to_string(dir)?;
    let auth = if options.listen.ip().is_loopback() { "" } else { "auth = \"none\"\n" };
    let media = media(options);
    let text = format!(
        "[http]\nlisten = \"{}\"\n{auth}[webrtc]\nlisten = \"{media}\"\n[streams.demo]\nsource = \"{SOURCE}\"\n\
         [streams.demo.sinks.record]\ntype = \"record\"\ndir = {quoted}\nkeep = {{ bytes = \"1GiB\" }}\n",
        options.listen
    );
    let loaded = config::parse(&text, "demo").map_err(|error| anyhow!("{error}"))?;
    start(&loaded, Keys::default(), verbose, |page| {
        say(format_args!("A built-in camera, 1280x720 at 25 frames per second:"))?;
        say(format_args!("  page        {page}"))?;
        say(format_args!("  live        on the page, or with any WHEP player: {page}/whep/demo"))?;
        say(format_args!("  recordings  {dir}/demo/ (a file a minute, the newest 1 GiB)"))?;
        say(format_args!("  encoder     openh264, {}", assembly()))?;
        say("Ctrl-C stops it and finishes the running recording.")?;
        Ok(())
    })
}

/// Where viewers' media goes. Who lets the system choose the page's port gets that here too, so that several demos may
/// run side by side.
fn media(options: &Demo) -> SocketAddr {
    let port = if options.listen.port() == 0 { 0 } else { WEBRTC_LISTEN.port() };
    options.media.unwrap_or(SocketAddr::new(WEBRTC_LISTEN.ip(), port))
}

fn assembly() -> &'static str {
    if relay_nodes::ENCODER_ASSEMBLY {
        "with its assembly"
    } else {
        "WITHOUT its assembly, at less than half its speed: install nasm and build again"
    }
}
