//! `cargo xtask bench`: the criterion benches, their output shown as it comes and their figures as one table.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, bail};

use crate::shell;

/// Which benches to run.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask bench ring")]
pub(crate) struct Options {
    /// Only the benches whose name contains this.
    filter: Option<String>,
}

/// Runs `relay-benches` and prints the table.
///
/// # Errors
/// When the benches don't build or end badly.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut command = shell::cargo(&["bench", "--package", "relay-benches", "--"]);
    command.args(&options.filter).stdout(Stdio::piped());
    let mut child = command.spawn().context("start cargo bench")?;
    let mut rows: Vec<String> = Vec::new();
    let mut promises = Vec::new();
    let mut name = String::new();
    for line in BufReader::new(child.stdout.take().context("cargo bench has no stdout")?).lines() {
        let line = line?;
        println!("{line}");
        if let Some(row) = estimate(&line, &mut name) {
            rows.push(row);
        } else if let (Some(speed), Some(row)) = (throughput(&line), rows.last_mut()) {
            *row += &format!(" {speed} |");
        } else if line.starts_with("kept ") || line.starts_with("BROKEN ") {
            promises.push(line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("cargo bench ended with {status}");
    }
    println!("\n| bench | low | estimate | high | throughput |\n|---|---|---|---|---|");
    for line in rows.iter().chain(&promises) {
        println!("{line}");
    }
    Ok(())
}

/// The table's row for one line of criterion's, which puts a long name on a line of its own:
/// `ring/push  time:   [1.0 ns 1.1 ns 1.2 ns]`.
fn estimate(line: &str, name: &mut String) -> Option<String> {
    let Some((before, after)) = line.split_once("time:") else {
        let is_name = !line.is_empty() && !line.starts_with(' ') && !line.contains(':');
        if is_name {
            line.clone_into(name);
        }
        return None;
    };
    let title = if before.trim().is_empty() { name.trim() } else { before.trim() };
    let figures = after.trim().strip_prefix('[')?.strip_suffix(']')?;
    let words: Vec<_> = figures.split_whitespace().collect();
    let cells: Vec<_> = words.chunks(2).map(|pair| pair.join(" ")).collect();
    Some(format!("| {title} | {} |", cells.join(" | ")))
}

/// The estimate of criterion's line about throughput: `thrpt:  [1.0 GB/s 1.1 GB/s 1.2 GB/s]`.
fn throughput(line: &str) -> Option<String> {
    let figures = line.trim().strip_prefix("thrpt:")?.trim().strip_prefix('[')?.strip_suffix(']')?;
    let words: Vec<_> = figures.split_whitespace().collect();
    words.chunks(2).nth(1).map(|pair| pair.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn criterion_lines_become_rows() {
        let cases = [
            (vec!["push  time:   [1.0 ns 1.1 ns 1.2 ns]"], Some("| push | 1.0 ns | 1.1 ns | 1.2 ns |")),
            (
                vec!["ring/drain/8 readers in one task", "      time:   [81 ns 86 ns 90 ns]"],
                Some("| ring/drain/8 readers in one task | 81 ns | 86 ns | 90 ns |"),
            ),
            (vec!["a/b/c", "     thrpt:  [3.0 GB/s 3.1 GB/s 3.2 GB/s]"], None),
            (vec!["Found 3 outliers among 100 measurements (3.00%)"], None),
        ];
        for (lines, wanted) in cases {
            let mut name = String::new();
            let rows: Vec<_> = lines.iter().filter_map(|line| estimate(line, &mut name)).collect();
            assert_eq!(rows.last().map(String::as_str), wanted, "{lines:?}");
        }
    }

    #[test]
    fn the_middle_of_criterions_throughput_is_told() {
        let rows = [
            ("             thrpt:  [3.0 GB/s 3.1 GB/s 3.2 GB/s]", Some("3.1 GB/s")),
            ("       thrpt:  [-0.8% -0.1% +0.5%] (p = 0.8)", None),
            ("       time:   [1.0 ns 1.1 ns 1.2 ns]", None),
        ];
        for (line, wanted) in rows {
            assert_eq!(throughput(line).as_deref(), wanted, "{line}");
        }
    }
}
