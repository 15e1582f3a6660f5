//! A test that needs a program asks for it first, and is skipped by name where it is missing.

use std::io::Write;

/// Whether all `programs` are on the path. Where one isn't, the calling test should return at once: its name and what
/// it lacks are appended to the file that `RELAY_SKIPS` names, which `cargo xtask test` lists at its end.
///
/// # Panics
/// In a CI (`CI=true`): there, a test that is skipped is a test that failed.
#[must_use]
pub fn needs(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|name| !is_on_path(name)).copied().collect();
    if missing.is_empty() {
        return true;
    }
    let thread = std::thread::current();
    let why = format!("{}: needs {}", thread.name().unwrap_or("a test"), missing.join(", "));
    assert!(!std::env::var("CI").is_ok_and(|value| value == "true"), "skipped in CI: {why}");
    println!("skipped: {why}");
    if let Some(path) = std::env::var_os("RELAY_SKIPS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // The skip was printed already; a list that can't be written must not fail a test that wasn't run.
        let _ = file.and_then(|mut file| writeln!(file, "{why}"));
    }
    false
}

fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
