//! Finds out whether openh264 is built with its assembly: its build leaves it out without an error when nasm is
//! missing, and is then less than half as fast.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rustc-check-cfg=cfg(openh264_assembly)");
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["PATH", "NASM", "OPENH264_NO_ASM"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    match assembly() {
        Ok(()) => println!("cargo::rustc-cfg=openh264_assembly"),
        Err(why) => println!("cargo::warning=openh264 runs at less than half its speed: {why}"),
    }
}

/// Decides as the build script of openh264-sys2 0.9.9 does.
fn assembly() -> Result<(), String> {
    let target = |what: &str| env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    match target("ARCH").as_str() {
        "x86" | "x86_64" => {}
        // The C compiler assembles these itself, but for Windows.
        "arm" | "aarch64" if target("OS") != "windows" => return Ok(()),
        arch => return Err(format!("it has no assembly for {arch} on {}", target("OS"))),
    }
    if env::var_os("OPENH264_NO_ASM").is_some() {
        return Err("OPENH264_NO_ASM is set, so its assembly is left out".to_owned());
    }
    if !nasm_runs() {
        return Err(
            "nasm is not installed, so its assembly is left out; install it, then `cargo clean -p openh264-sys2 -p relay-encode`"
                .to_owned(),
        );
    }
    match earlier_build() {
        Some(output) if built_without(&output) => {
            println!("cargo::rerun-if-changed={}", output.display());
            Err("it was built before nasm was installed; `cargo clean -p openh264-sys2` builds it anew".to_owned())
        }
        _ => Ok(()),
    }
}

/// `NASM`, else `nasm` on the path, as nasm-rs looks for it.
fn nasm_runs() -> bool {
    let nasm = env::var_os("NASM").unwrap_or_else(|| "nasm".into());
    Command::new(nasm).arg("-v").output().is_ok_and(|output| output.status.success())
}

/// What the newest run of openh264-sys2's build script printed, if it ran before in this target directory: cargo
/// doesn't run it again when nasm appears.
fn earlier_build() -> Option<PathBuf> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR")?);
    let runs = fs::read_dir(out_dir.ancestors().nth(2)?).ok()?.filter_map(Result::ok);
    let runs = runs.filter(|run| run.file_name().to_string_lossy().starts_with("openh264-sys2-"));
    let outputs = runs.map(|run| run.path().join("output"));
    outputs
        .filter_map(|output| Some((fs::metadata(&output).ok()?.modified().ok()?, output)))
        .max()
        .map(|(_, path)| path)
}

fn built_without(output: &Path) -> bool {
    let output = fs::read(output).unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    output.contains("Failed to compile NASM") || output.contains("NASM compilation disabled")
}
