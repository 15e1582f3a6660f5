//! What each command does, and its exit code.

mod check;
mod demo;
mod probe;
mod run;

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use crate::{
    cli::{Cli, Command},
    config::{self, LoadError, Remark},
};

/// A bad configuration, or a bad command line.
const BAD_CONFIG: u8 = 2;

/// Does what the command line asks for: 0 after a clean end, 1 after a failure, 2 after a bad configuration.
pub(crate) fn execute(cli: Cli) -> ExitCode {
    let verbose = cli.verbose;
    let done = match cli.command {
        Command::Demo(options) => demo::demo(&options, verbose),
        Command::Run(options) => run::run(options.config.as_deref(), verbose),
        Command::Check(options) => check::check(options.config.as_deref()),
        Command::Probe(options) => probe::probe(&options, verbose),
        Command::Launch(_) => {
            say_error("launch is not built yet: write the pipeline into a configuration file and use relayd run");
            Ok(ExitCode::from(BAD_CONFIG))
        }
        Command::Schema => schema(),
    };
    done.unwrap_or_else(|error| {
        say_error(format_args!("relayd: {error:#}"));
        ExitCode::FAILURE
    })
}

fn schema() -> anyhow::Result<ExitCode> {
    say(serde_json::to_string_pretty(&config::schema())?)?;
    Ok(ExitCode::SUCCESS)
}

/// Loads a configuration; if it is bad, says why and gives the exit code.
fn load(path: Option<&std::path::Path>) -> Result<config::Loaded, ExitCode> {
    config::load(path).map_err(|error| {
        if let LoadError::Wrong(_, notes) = &error {
            say_notes(notes);
        }
        say_error(error);
        ExitCode::from(BAD_CONFIG)
    })
}

fn say_notes(notes: &[Remark]) {
    for Remark { file, line, column, message } in notes {
        say_error(format_args!("{file}:{line}:{column}: note: {message}"));
    }
}

/// Writes a line to standard output. A reader that has gone is an error, not a panic.
fn say(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// Writes a line to standard error, if anyone reads it.
fn say_error(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
