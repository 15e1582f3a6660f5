#![no_main]

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use libfuzzer_sys::fuzz_target;
use relay_kvs::proto::{Cause, Failure, Input, Output, Scheduler, SessionId, Settings, SpoolMode, SpoolSettings};
use relay_media::{Codec, Flags, Packet, Timebase, Timestamp, Track, TrackId, UtcTime, Wall, WallOrigin, h264};

const SPS: &[u8] =
    &[0x67, 0x42, 0xc0, 0x0d, 0xd9, 1, 0x41, 0xfb, 1, 0x10, 0, 0, 3, 0, 0x10, 0, 0, 3, 3, 0x20, 0xf1, 0x42, 0xa4, 0x80];

fn packet(track: &Arc<Track>, now: Instant, ms: i64, flags: Flags) -> Arc<Packet> {
    let time = Timestamp::new(ms * 90, track.timebase);
    let wall = Wall { utc: UtcTime::from_unix_nanos(ms * 1_000_000), origin: WallOrigin::Arrival };
    let payload = vec![0; 500].into();
    let track = track.clone();
    Arc::new(Packet { track, dts: time, pts: time, duration: None, arrival: now, wall, flags, payload })
}

// Three bytes are a step: what happens, to which session or fragment, how much time passes. Nothing is lost silently.
fuzz_target!(|steps: &[u8]| {
    let codec = Codec::H264(h264::Config::parse(SPS, &[0x68, 0xcb, 0x83, 0xcb, 0x20]).unwrap());
    let track = Arc::new(Track { id: TrackId(1), codec, timebase: Timebase::VIDEO });
    let spool = SpoolSettings { max_bytes: 20_000, mode: SpoolMode::Overflow };
    let settings = Settings { window_bytes: 10_000, spool: Some(spool), ..Settings::new(7) };
    let (mut now, mut ms, mut scheduler) = (Instant::now(), 0, Scheduler::new(settings, vec![], 0));
    let (mut stored, mut sent, mut calls) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for step in steps.chunks_exact(3) {
        let (id, passed) = (SessionId(u64::from(step[1])), u64::from(step[2]) * 10);
        now += Duration::from_millis(passed);
        let timecode = sent.iter().nth(usize::from(step[1]) % sent.len().max(1)).copied().unwrap_or_default();
        let event = ["BUFFERING", "RECEIVED", "PERSISTED", "ERROR", "IDLE"][usize::from(step[2]) % 5];
        let error = 4_000 + u32::from(step[1]) * 7;
        let ack = format!(r#"{{"EventType":"{event}","FragmentTimecode":{timecode},"ErrorId":{error}}}"#);
        match step[0] % 10 {
            0 | 1 => {
                ms += passed as i64;
                let flags = if step[1] % 4 == 0 { Flags::KEY } else { Flags::empty() };
                scheduler.handle_input(now, Input::Packet(packet(&track, now, ms, flags)));
            }
            2 => scheduler.handle_input(now, Input::Accepted(id, Some(Duration::from_secs(passed)))),
            3 => scheduler.handle_input(now, Input::Written(id)),
            4 => scheduler.handle_input(now, Input::Acks(id, ack.as_bytes())),
            5 => scheduler.handle_input(now, Input::Closed(id, Some(Failure::new(Cause::Reset, "")))),
            6 => scheduler.handle_input(now, Input::Closed(id, None)),
            7 => stored.iter().for_each(|at| scheduler.handle_input(now, Input::Stored(*at))),
            8 => scheduler.handle_input(now, Input::NotStored(timecode)),
            _ => scheduler.handle_timeout(now),
        }
        while let Some(output) = scheduler.poll_output() {
            match output {
                Output::Open { .. } => calls.push(now),
                Output::Send(_, fragment) => drop(sent.insert(fragment.timecode_ms)),
                Output::Store(fragment) => drop(stored.insert(fragment.timecode_ms)),
                Output::Persisted { timecode_ms, .. } => assert!(sent.contains(&timecode_ms)),
                _ => {}
            }
        }
        let stats = scheduler.stats();
        let dropped: u64 = stats.packets_dropped.values().sum();
        assert_eq!(stats.packets_in, stats.packets_persisted + dropped + stats.packets_buffered);
        assert!(calls.windows(5).all(|calls| calls[4] - calls[0] > Duration::from_secs(1)));
    }
});
