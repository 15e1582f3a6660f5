//! Master playlists (RFC 8216 §4.3.4), read by m3u8-rs, and the choice of a variant.

use std::borrow::Cow;

use m3u8_rs::{AlternativeMedia, AlternativeMediaType, MasterPlaylist, VariantStream};
use url::Url;

use super::{
    cause::{Cause, reason},
    define::Variables,
    lexer,
    playlist::resolve,
};

/// The most variants and renditions kept of a master playlist; a hundred is already far from any that was seen.
const ENTRIES_MAX: usize = 256;

/// Which variant to play.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one with the highest bandwidth.
    #[default]
    Highest,
    /// The one with the lowest bandwidth that has video, if any has.
    Lowest,
    /// The highest one within limits; the lowest if none is.
    Within {
        /// In bits per second.
        max_bandwidth: Option<u64>,
        /// In lines.
        max_height: Option<u64>,
    },
}

/// One stream of a master playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) url: Url,
    pub(crate) bandwidth: u64,
    pub(crate) height: Option<u64>,
    codecs: Option<String>,
    /// Where its audio is, if that has a playlist of its own.
    pub(crate) audio: Option<Url>,
}

impl Variant {
    /// In words.
    pub(crate) fn shown(&self) -> String {
        let height = self.height.map(|height| format!(", {height} lines")).unwrap_or_default();
        format!("{} kbit/s{height}", self.bandwidth / 1_000)
    }

    /// The same stream in a master playlist that was read again, though its URL may be signed anew.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let told = |variant: &Self| (variant.bandwidth, variant.height, variant.codecs.clone());
        told(self) == told(other) && self.url.host() == other.url.host()
    }

    fn is_audio_only(&self) -> bool {
        let Some(codecs) = &self.codecs else { return false };
        let is_audio = |codec: &str| {
            ["mp4a", "ac-3", "ec-3", "opus", "flac"]
                .iter()
                .any(|kind| codec.trim().to_ascii_lowercase().starts_with(kind))
        };
        self.height.is_none() && codecs.split(',').all(is_audio)
    }
}

/// A master playlist.
#[derive(Clone, Debug)]
pub(crate) struct Master {
    /// The best first.
    pub(crate) variants: Vec<Variant>,
    pub(crate) variables: Variables,
}

impl Master {
    /// These bytes are a master playlist rather than a media playlist.
    pub(crate) fn is_master(bytes: &[u8]) -> bool {
        lexer::lines(bytes).is_ok_and(|mut lines| lines.any(|line| line.trim_start().starts_with("#EXT-X-STREAM-INF")))
    }

    /// Reads a master playlist that came from `url`; its variants in the order of `choice`.
    pub(crate) fn parse(bytes: &[u8], url: &Url, choice: Choice) -> Result<Self, Cause> {
        let refuse = |what: String| Cause::cheap(reason::NOT_PLAYLIST, what);
        let mut variables = Variables::default();
        let mut text = String::new();
        for line in lexer::lines(bytes).map_err(|error| refuse(error.to_string()))? {
            let line = variables.expand(line);
            if let Some(attributes) = line.strip_prefix("#EXT-X-DEFINE:") {
                let attributes = attributes.to_owned();
                variables.define(&attributes, &Variables::default(), url);
            }
            let line: Cow<'_, str> = line;
            text.push_str(&line);
            text.push('\n');
        }
        let read = m3u8_rs::parse_master_playlist_res(text.as_bytes());
        let read = read.map_err(|_| refuse("a master playlist that cannot be read".to_owned()))?;
        let mut variants: Vec<_> = variants(&read, url).collect();
        sort(&mut variants, choice);
        if variants.is_empty() {
            return Err(Cause::cheap(reason::NO_VARIANT, "a master playlist without a variant"));
        }
        Ok(Self { variants, variables })
    }
}

fn variants<'a>(read: &'a MasterPlaylist, url: &'a Url) -> impl Iterator<Item = Variant> + 'a {
    let streams = read.variants.iter().filter(|stream| !stream.is_i_frame && !stream.uri.is_empty());
    streams.take(ENTRIES_MAX).filter_map(move |stream| {
        Some(Variant {
            url: resolve(url, &stream.uri)?,
            bandwidth: stream.bandwidth,
            height: stream.resolution.map(|resolution| resolution.height),
            codecs: stream.codecs.clone(),
            audio: audio(read, stream, url),
        })
    })
}

/// The audio of a variant, where it has a playlist of its own: the default of its group, else one that may be chosen
/// by itself, else any (RFC 8216 §4.3.4.1). Without a URI the audio is in the variant.
fn audio(read: &MasterPlaylist, stream: &VariantStream, url: &Url) -> Option<Url> {
    let group = stream.audio.as_ref()?;
    let is_in_group =
        |media: &&AlternativeMedia| media.media_type == AlternativeMediaType::Audio && media.group_id == *group;
    let rank = |media: &&AlternativeMedia| (media.default, media.autoselect);
    // max_by_key takes the last of equals; the first is meant.
    let chosen = read.alternatives.iter().take(ENTRIES_MAX).filter(is_in_group).rev().max_by_key(rank)?;
    let audio = resolve(url, chosen.uri.as_ref()?)?;
    // An audio-only variant names its own playlist again.
    (resolve(url, &stream.uri)? != audio).then_some(audio)
}

/// The order in which variants are tried.
fn sort(variants: &mut [Variant], choice: Choice) {
    // Stable: of equals, the first named is preferred (a backup stream comes second).
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.bandwidth));
    match choice {
        Choice::Highest => {}
        Choice::Lowest => variants.sort_by_key(|variant| variant.bandwidth),
        Choice::Within { max_bandwidth, max_height } => {
            let fits = |variant: &Variant| {
                max_bandwidth.is_none_or(|max| variant.bandwidth <= max)
                    && max_height.is_none_or(|max| variant.height.is_none_or(|height| height <= max))
            };
            // Those that fit, the highest first; then the others, the lowest first.
            variants.sort_by_key(|variant| match fits(variant) {
                true => (false, u64::MAX - variant.bandwidth),
                false => (true, variant.bandwidth),
            });
        }
    }
    variants.sort_by_key(Variant::is_audio_only);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "\u{feff}#EXTM3U
#EXT-X-DEFINE:NAME=\"p\",VALUE=\"path\"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"other\",URI=\"other.m3u8\"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"main\",DEFAULT=YES,AUTOSELECT=YES,URI=\"{$p}/audio.m3u8\"
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"inside\",NAME=\"main\",DEFAULT=YES
#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS=\"mp4a.40.2\",AUDIO=\"a\"
path/audio.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1000000,RESOLUTION=640x360,AUDIO=\"a\"
low.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=4000000,RESOLUTION=1920x1080,AUDIO=\"inside\"
high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=4000000,RESOLUTION=1920x1080
https://backup/high.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=2000000,RESOLUTION=1280x720
middle.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=9000000,URI=\"frames.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=9000000
ftp://x/y.m3u8
";

    #[test]
    fn variants_come_in_the_order_of_the_choice() {
        let url = Url::parse("http://origin/live/master.m3u8").unwrap();
        let within = |max_bandwidth, max_height| Choice::Within { max_bandwidth, max_height };
        for (choice, expected) in [
            (Choice::Highest, ["high", "high", "middle", "low", "audio"]),
            (Choice::Lowest, ["low", "middle", "high", "high", "audio"]),
            (within(Some(2_000_000), None), ["middle", "low", "high", "high", "audio"]),
            (within(None, Some(400)), ["low", "middle", "high", "high", "audio"]),
            (within(Some(1), None), ["low", "middle", "high", "high", "audio"]),
            (within(None, None), ["high", "high", "middle", "low", "audio"]),
        ] {
            let master = Master::parse(MASTER.as_bytes(), &url, choice).unwrap();
            let names: Vec<_> = master.variants.iter().map(|variant| variant.url.path()).collect();
            let is_right =
                names.iter().zip(expected).all(|(name, expected)| name.ends_with(&format!("{expected}.m3u8")));
            assert!(is_right && names.len() == expected.len(), "{choice:?}: {names:?}");
        }
        let master = Master::parse(MASTER.as_bytes(), &url, Choice::Highest).unwrap();
        let audio: Vec<_> = master.variants.iter().map(|variant| variant.audio.as_ref().map(Url::path)).collect();
        assert_eq!(audio, [None, None, None, Some("/live/path/audio.m3u8"), None]);
        assert_eq!(master.variants[0].url.host_str(), Some("origin"));
        assert!(Master::is_master(MASTER.as_bytes()) && !Master::is_master(b"#EXTM3U\n#EXTINF:1,\na"));
        assert!(Master::parse(b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", &url, Choice::Highest).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_and_lines(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
            lines in proptest::collection::vec(0_usize..40, 0..20),
            cut in 0_usize..100,
        ) {
            let url = Url::parse("http://origin/live/master.m3u8").unwrap();
            let _ = Master::parse(&bytes, &url, Choice::Lowest);
            let all: Vec<_> = MASTER.lines().skip(1).collect();
            let picked = lines.iter().map(|line| all[line % all.len()]).map(|line| line.get(..cut).unwrap_or(line));
            let text = picked.fold("#EXTM3U\n".to_owned(), |text, line| text + line + "\n");
            let _ = Master::parse(text.as_bytes(), &url, Choice::Highest);
        }
    }
}
