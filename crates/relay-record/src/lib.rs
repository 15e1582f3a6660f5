//! Recordings on disk: segments, names, retention, repair, and the file writer.
