//! The law about the code, executable: sizes, names, who may depend on whom, and where clocks and tasks are born.

mod layers;
mod source;

use std::path::Path;

use relay_tests::root;
use source::SourceFile;

/// A file fits a head.
const FILE_LINES_MAX: usize = 600;
/// A function fits a screen.
const FUNCTION_LINES_MAX: usize = 80;

/// Module names that say nothing about what belongs there.
const NAMELESS: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "manager", "core", "base"];

/// What only one place may do, by the text that does it. Tests and relay-sim may do it too: they are not the product.
const RESERVED: &[(&str, &[&str])] = &[
    ("Instant::now(", &["crates/relay-graph/src/clock.rs"]),
    ("SystemTime::now(", &["crates/relay-graph/src/clock.rs"]),
    ("Timestamp::now(", &["crates/relay-graph/src/clock.rs"]),
    ("tokio::spawn(", &["crates/relay-graph/src/supervisor.rs"]),
    ("thread::sleep(", &[]),
    ("unbounded_channel", &[]),
    ("unsafe {", &[]),
];

#[test]
fn files_and_functions_are_short() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path));
        }
        for function in file.functions() {
            if function.lines > FUNCTION_LINES_MAX {
                let (path, line) = (&file.path, function.line);
                wrong.push(format!("{path}:{line}: {} lines, at most {FUNCTION_LINES_MAX}", function.lines));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_say_what_they_are_and_have_names() {
    let mut wrong = Vec::new();
    for file in source::all() {
        let path = Path::new(&file.path);
        let nameless = path.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
        for part in nameless.filter(|part| NAMELESS.contains(part)) {
            wrong.push(format!("{}: `{part}` is no name", file.path));
        }
        if !file.text.starts_with("//!") && !file.text.starts_with("#!") {
            wrong.push(format!("{}: no `//!` at its head", file.path));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn clocks_and_tasks_are_born_in_one_place() {
    let mut wrong = Vec::new();
    for file in source::all().iter().filter(|file| file.is_product()) {
        for (index, line) in file.product_lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for (text, allowed) in RESERVED {
                if code.contains(text) && !allowed.contains(&file.path.as_str()) {
                    wrong.push(format!("{}:{}: `{text}` is for {allowed:?} only", file.path, index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn layers_point_one_way() {
    let wrong = layers::wrong_edges(&layers::metadata());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn documents_are_there() {
    let documents =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "relayd.example.toml", "deny.toml"];
    let missing: Vec<_> = documents.into_iter().filter(|name| !root().join(name).is_file()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(SourceFile::read("README.md").text.contains("cargo run --release -p relayd -- demo"));
}

/// A path that a document names in backticks exists: documents rot where nobody looks.
#[test]
fn documents_name_files_that_exist() {
    let mut wrong = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = SourceFile::read(document).text;
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = quoted.contains('/') && (quoted.ends_with(".rs") || quoted.ends_with(".toml"));
            let is_plain = quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            let stands = [quoted.to_owned(), format!("crates/{quoted}")].iter().any(|path| root().join(path).exists());
            if is_path && is_plain && !quoted.starts_with('/') && !stands {
                wrong.push(format!("{document}: `{quoted}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
