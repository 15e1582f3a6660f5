//! The direction of dependencies, which is the architecture: read from `cargo metadata`, compared with one table.

use std::process::Command;

use relay_tests::root;
use serde_json::Value;

const FORMATS: &[&str] = &["relay-rtp", "relay-mp4", "relay-mkv", "relay-ts"];
const PROTOCOLS: &[&str] = &["relay-hls", "relay-srt", "relay-webrtc", "relay-kvs"];

/// Crates that are bytes in, values out, or plain state: a runtime is none of their business.
const WITHOUT_TOKIO: &[&str] =
    &["relay-media", "relay-ring", "relay-rtp", "relay-mp4", "relay-mkv", "relay-ts", "relay-record", "relay-encode"];

/// Outside the product: they may reach everything, and the product reaches none of them.
const OUTSIDE: &[&str] = &["relay-sim", "relay-tests", "relay-benches", "relay-examples", "relay-fuzz", "xtask"];

/// What each crate of the product may depend on, of ours. A crate that is not here has no place yet.
fn allowed(name: &str) -> Option<Vec<&'static str>> {
    let media = vec!["relay-media"];
    Some(match name {
        "relay-media" => vec![],
        "relay-ring" | "relay-encode" => media,
        "relay-graph" => vec!["relay-media", "relay-ring"],
        "relay-record" => vec!["relay-media", "relay-mp4"],
        name if FORMATS.contains(&name) => media,
        name if PROTOCOLS.contains(&name) => [&media, FORMATS].concat(),
        "relay-nodes" => {
            [FORMATS, PROTOCOLS, &["relay-media", "relay-ring", "relay-graph", "relay-record", "relay-encode"]].concat()
        }
        "relayd" => [allowed("relay-nodes")?, vec!["relay-nodes"]].concat(),
        _ => return None,
    })
}

/// `cargo metadata` of the workspace, its own packages only.
pub(crate) fn metadata() -> Value {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output = command.args(["metadata", "--no-deps", "--format-version=1"]).current_dir(root()).output();
    serde_json::from_slice(&output.expect("cargo runs").stdout).expect("cargo metadata is JSON")
}

/// Every dependency that points the wrong way, in words. Dev-dependencies may point anywhere.
pub(crate) fn wrong_edges(metadata: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name");
        if OUTSIDE.contains(&name) {
            continue;
        }
        let Some(allowed) = allowed(name) else {
            wrong.push(format!("{name}: say in tests/tests/it/tidy/layers.rs which layer it belongs to"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let target = dependency["name"].as_str().expect("name");
            let is_ours = dependency["path"].is_string();
            if is_ours && !allowed.contains(&target) {
                wrong.push(format!("{name} must not depend on {target}, only on {allowed:?}"));
            }
            if target.starts_with("tokio") && WITHOUT_TOKIO.contains(&name) {
                wrong.push(format!("{name} must not depend on {target}: no runtime there"));
            }
        }
    }
    wrong
}

#[test]
fn wrong_edges_are_seen() {
    let edge = |from: &str, to: &str, kind: Value| serde_json::json!({"packages": [{"name": from, "dependencies": [{"name": to, "path": "/x", "kind": kind}]}]});
    let cases = [
        ("relay-graph", "relay-ring", Value::Null, 0),
        ("relay-ring", "relay-graph", Value::Null, 1),
        ("relay-rtp", "relay-nodes", Value::Null, 1),
        ("relayd", "relay-sim", Value::Null, 1),
        ("relayd", "relay-sim", Value::from("dev"), 0),
        ("relay-mp4", "tokio", Value::Null, 2),
        ("relay-new", "relay-media", Value::Null, 1),
    ];
    for (from, to, kind, wanted) in cases {
        assert_eq!(wrong_edges(&edge(from, to, kind)).len(), wanted, "{from} -> {to}");
    }
}
