//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::config::Time;

/// The media relay: cameras in; recordings, browsers and clouds out.
#[derive(Debug, Parser)]
#[command(name = "relayd", version, arg_required_else_help = true, after_help = "Example: relayd demo")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Log more: -v our own details, -vv everyone's, -vvv everything. RUST_LOG goes before it.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a built-in camera: the page at http://127.0.0.1:8080, recordings in ./relayd-demo/.
    #[command(after_help = "Example: relayd demo --listen 127.0.0.1:9000")]
    Demo(Demo),
    /// Run what a configuration file says, until SIGINT or SIGTERM.
    #[command(after_help = "Example: relayd run /etc/relayd/relayd.toml")]
    Run(ConfigFile),
    /// Tell everything that is wrong with a configuration file, and how much memory it may take. Opens no socket.
    #[command(after_help = "Example: relayd check relayd.toml")]
    Check(ConfigFile),
    /// Tell what a source carries and which sinks it fits.
    #[command(after_help = "Example: relayd probe rtsp://user:secret@10.0.0.5/ch0")]
    Probe(Probe),
    /// Run a pipeline written in one line. Not built yet.
    #[command(after_help = "Example: relayd launch 'rtsp://cam/1 ! record dir=recordings'")]
    Launch(Launch),
    /// Print the JSON Schema of the configuration file, for editors.
    #[command(after_help = "Example: relayd schema > relayd.schema.json")]
    Schema,
}

/// Options of `demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Where the page is served.
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = crate::config::HTTP_LISTEN)]
    pub(crate) listen: SocketAddr,
    /// Where the media of live viewers goes, over UDP and TCP; 0.0.0.0:8189 unless said otherwise.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) media: Option<SocketAddr>,
    /// Where the recordings go.
    #[arg(long, value_name = "DIR", default_value = "relayd-demo")]
    pub(crate) dir: PathBuf,
}

/// Which configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The file; else ./relayd.toml, else /etc/relayd/relayd.toml.
    pub(crate) config: Option<PathBuf>,
}

/// Options of `probe`.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The source, as in a configuration file.
    pub(crate) url: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Give up after this long without media.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time)]
    pub(crate) timeout: Duration,
}

/// Options of `launch`.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    /// The pipeline.
    #[arg(required = true, num_args = 1.., allow_hyphen_values = true)]
    pub(crate) line: Vec<String>,
}

/// What is wrong with an argument, in plain words.
#[derive(Debug, thiserror::Error)]
#[error("it {0}")]
struct BadArgument(String);

fn time(text: &str) -> Result<Duration, BadArgument> {
    Time::parse(text).map(|time| time.0).map_err(|wrong| BadArgument(wrong.0))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_help_shows_an_example() {
        let mut cli = super::Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            assert!(help.contains("Example: relayd "), "{help}");
        }
    }
}
