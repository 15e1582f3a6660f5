//! The leaky queue: one writer, any number of cursors, nothing ever blocks the writer.
