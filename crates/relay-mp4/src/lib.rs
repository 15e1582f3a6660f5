//! Fragmented MP4: fragments, hybrid finalisation, and reading them back, sans-IO.
