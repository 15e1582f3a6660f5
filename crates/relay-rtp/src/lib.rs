//! RTP payload formats: packets in, access units and audio frames out, sans-IO.
