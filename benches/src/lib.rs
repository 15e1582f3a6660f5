//! What a packet costs: nanoseconds and allocations per unit of work. Everything is in `benches/`, one file per
//! subject: `cargo bench -p relay-benches --bench ring`.
