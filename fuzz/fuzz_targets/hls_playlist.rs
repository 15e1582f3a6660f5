#![no_main]

use libfuzzer_sys::fuzz_target;
use relay_hls::proto::MediaPlaylist;
use url::Url;

fuzz_target!(|input: (&[u8], &[u8])| {
    let url = Url::parse("http://origin/live.m3u8?x=1").expect("a URL");
    let (first, second) = input;
    let first = MediaPlaylist::parse(first, &url).ok();
    if let Ok(second) = MediaPlaylist::parse(second, &url) {
        let _ = second.merge(first.as_ref());
    }
});
