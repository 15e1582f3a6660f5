#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use relay_hls::proto::{Answer, FetchId, Head, Options, Output, Planner};
use url::Url;

// What comes for the requests, one after the other: a status, a wait, and bytes.
fuzz_target!(|answers: Vec<(u8, u16, &[u8])>| {
    let mut now = Instant::now();
    let mut planner = Planner::new(now, Url::parse("http://origin/live.m3u8").expect("a URL"), Options::default());
    let mut open: Vec<FetchId> = Vec::new();
    for (kind, wait, bytes) in answers.iter().take(200) {
        while let Some(output) = planner.poll_output() {
            match output {
                Output::Fetch(fetch) => open.push(fetch.id),
                Output::Cancel(id) => open.retain(|known| *known != id),
                Output::Event(_) => {}
            }
        }
        now += Duration::from_millis((*wait).into());
        let Some(id) = open.pop() else {
            planner.handle_timeout(now);
            continue;
        };
        let status = [200, 206, 403, 404, 503][usize::from(*kind) % 5];
        planner.handle_input(now, id, Answer::Head(Head { status, ..Head::default() }));
        planner.handle_input(now, id, Answer::Body(Bytes::copy_from_slice(bytes)));
        planner.handle_input(now, id, Answer::End);
    }
});
