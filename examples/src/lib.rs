//! Nothing here: see `examples/`. `cargo run -p relay-examples --example record -- rtsp://…`
