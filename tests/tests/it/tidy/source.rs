//! The workspace's own source files, as text.

use std::path::{Path, PathBuf};

use relay_tests::root;

/// One file, its path from the root.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A function and how long it is, from its `fn` line to its closing brace.
pub(crate) struct Function {
    pub(crate) line: usize,
    pub(crate) lines: usize,
}

impl SourceFile {
    pub(crate) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// Whether it becomes part of what users run.
    pub(crate) fn is_product(&self) -> bool {
        let is_source = self.path.starts_with("crates/") && self.path.contains("/src/");
        is_source && !self.path.starts_with("crates/relay-sim/") && !self.path.ends_with("tests.rs")
    }

    /// Its lines up to the tests, which stand last.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().take_while(|line| *line != "#[cfg(test)]" && *line != "#[cfg(all(test, not(loom)))]")
    }

    /// Every function. The code is formatted: a function ends at the first closing brace at its own indent.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let lines: Vec<_> = self.text.lines().collect();
        let mut functions = Vec::new();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_function(line)) {
            let indent = line.len() - line.trim_start().len();
            let end = format!("{}}}", " ".repeat(indent));
            let one_liner = line.ends_with('}') || line.ends_with(';');
            let length = lines[index..].iter().position(|line| *line == end).map_or(1, |last| last + 1);
            functions.push(Function { line: index + 1, lines: if one_liner { 1 } else { length } });
        }
        functions
    }
}

/// Whether a line starts a function: `fn` after nothing but qualifiers.
fn is_function(line: &str) -> bool {
    let Some((before, _)) = line.split_once("fn ") else { return false };
    let qualifiers = ["const", "async", "unsafe", "extern", "default"];
    before.split_whitespace().all(|word| word.starts_with("pub") || qualifiers.contains(&word))
}

/// All Rust files of the workspace, in order.
pub(crate) fn all() -> Vec<SourceFile> {
    let mut paths = Vec::new();
    for folder in ["crates", "xtask", "tests", "examples", "benches", "fuzz/fuzz_targets"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 50, "only {} files found", paths.len());
    let relative = |path: PathBuf| path.strip_prefix(root()).expect("below the root").display().to_string();
    paths.into_iter().map(|path| SourceFile::read(&relative(path))).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[test]
fn functions_are_measured() {
    let text = "pub(crate) async fn a(\n    x: u8,\n) {\n    let y = || {\n    };\n}\n    fn b() {}\nstruct C;\n";
    let file = SourceFile { path: String::new(), text: text.to_owned() };
    let measured: Vec<_> = file.functions().iter().map(|function| (function.line, function.lines)).collect();
    assert_eq!(measured, [(1, 6), (7, 1)]);
}
