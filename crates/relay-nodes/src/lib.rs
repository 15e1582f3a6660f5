//! The nodes: one file each, translating a protocol or a file format to and from packets.
