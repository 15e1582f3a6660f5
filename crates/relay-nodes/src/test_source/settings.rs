//! What a `test://` URL asks for.

use std::{fmt, str::FromStr, time::Duration};

use relay_encode::{Size, ToneCodec};
use relay_media::g711::Law;
use url::Url;

/// The picture and sound of a [`TestSource`](super::TestSource); its `Display` is the URL with every parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) size: Size,
    pub(super) fps: u32,
    pub(super) bitrate_bps: u32,
    pub(super) gop: Duration,
    pub(super) audio: Option<ToneCodec>,
}

/// What is wrong with a `test://` URL: all of it, each with the value seen and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct TestUrlError(Vec<String>);

const PARAMETERS: &str = "size, fps, bitrate, gop and audio";
const SIZE_RIGHT: &str = "WIDTHxHEIGHT, both even, from 16x16 to 3840x2160, like 1280x720";
const FPS_RIGHT: &str = "a whole number of frames per second from 1 to 60, like 25";
const BITRATE_RIGHT: &str = "50k to 50M bit/s, like 2M or 500k";
const GOP_RIGHT: &str = "100ms to 60s, like 2s";
const AUDIO_RIGHT: &str = "none, opus, pcma or pcmu";

impl Settings {
    const DEFAULT_SIZE: Size = match Size::new(1_280, 720) {
        Ok(size) => size,
        Err(_) => unreachable!(),
    };

    /// Reads `test://pattern?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=opus`; every parameter may be left out.
    pub(super) fn parse(url: &Url) -> Result<Self, TestUrlError> {
        let mut problems = Vec::new();
        if url.host_str() != Some("pattern") || !matches!(url.path(), "" | "/") {
            problems.push("the only picture is test://pattern".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() || url.port().is_some() {
            problems.push("test://pattern takes no user, password or port".to_owned());
        }
        let mut settings = Self {
            size: Self::DEFAULT_SIZE,
            fps: 25,
            bitrate_bps: 2_000_000,
            gop: Duration::from_secs(2),
            audio: None,
        };
        let mut seen: Vec<String> = Vec::new();
        for (name, value) in url.query_pairs() {
            if let Err(problem) = settings.set(&name, &value) {
                problems.push(problem);
            }
            if seen.iter().any(|earlier| *earlier == name) {
                problems.push(format!("{} is given twice", short(&name)));
            }
            seen.push(name.into_owned());
        }
        if problems.is_empty() { Ok(settings) } else { Err(TestUrlError(problems)) }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let wrong = |right: &str| format!("{name} = {:?}: must be {right}", short(value));
        match name {
            "size" => self.size = size(value).ok_or_else(|| wrong(SIZE_RIGHT))?,
            "fps" => self.fps = number(value).filter(|fps| (1..=60).contains(fps)).ok_or_else(|| wrong(FPS_RIGHT))?,
            "bitrate" => self.bitrate_bps = bitrate(value).ok_or_else(|| wrong(BITRATE_RIGHT))?,
            "gop" => self.gop = gop(value).ok_or_else(|| wrong(GOP_RIGHT))?,
            "audio" => {
                self.audio = match value {
                    "none" => None,
                    "opus" => Some(ToneCodec::Opus),
                    "pcma" => Some(ToneCodec::G711(Law::A)),
                    "pcmu" => Some(ToneCodec::G711(Law::Mu)),
                    "aac" => return Err(format!("audio = \"aac\" is not built yet: must be {AUDIO_RIGHT}")),
                    _ => return Err(wrong(AUDIO_RIGHT)),
                }
            }
            _ => return Err(format!("unknown parameter {:?}: there are {PARAMETERS}", short(name))),
        }
        Ok(())
    }

    /// Frames from one key frame to the next, at least 1.
    pub(super) fn gop_frames(&self) -> u32 {
        let frames = (self.gop.as_millis() * u128::from(self.fps) + 500) / 1_000;
        u32::try_from(frames).unwrap_or(u32::MAX).max(1)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, fps, bitrate_bps, gop, audio } = self;
        let audio = audio.map_or("none", audio_name);
        write!(f, "test://pattern?size={}x{}&fps={fps}&bitrate=", size.width(), size.height())?;
        match bitrate_bps {
            bps if bps % 1_000_000 == 0 => write!(f, "{}M", bps / 1_000_000)?,
            bps => write!(f, "{}k", bps / 1_000)?,
        }
        match gop.as_millis() {
            millis if millis % 1_000 == 0 => write!(f, "&gop={}s", millis / 1_000)?,
            millis => write!(f, "&gop={millis}ms")?,
        }
        write!(f, "&audio={audio}")
    }
}

/// As the URL and [`Codec::name`](relay_media::Codec::name) spell it.
pub(super) fn audio_name(codec: ToneCodec) -> &'static str {
    match codec {
        ToneCodec::Opus => "opus",
        ToneCodec::G711(law) => law.name(),
    }
}

fn size(value: &str) -> Option<Size> {
    let (width, height) = value.split_once('x')?;
    Size::new(number(width)?, number(height)?).ok().filter(|size| size.width() <= 3_840 && size.height() <= 2_160)
}

/// `2M`, `500k` or `2.5M`, in steps of 1 kbit/s.
fn bitrate(value: &str) -> Option<u32> {
    let kilobits = match value.strip_suffix('M') {
        Some(megabits) => {
            let (whole, part) = megabits.split_once('.').unwrap_or((megabits, "0"));
            let thousandths = number::<u32>(&format!("{part:0<3}")).filter(|_| part.len() <= 3)?;
            number::<u32>(whole)?.checked_mul(1_000)?.checked_add(thousandths)?
        }
        None => number(value.strip_suffix('k')?)?,
    };
    (50..=50_000).contains(&kilobits).then(|| kilobits * 1_000)
}

fn gop(value: &str) -> Option<Duration> {
    let gop = match (value.strip_suffix("ms"), value.strip_suffix('s'), value.strip_suffix('m')) {
        (Some(millis), _, _) => Duration::from_millis(number(millis)?),
        (None, Some(seconds), _) => Duration::from_secs(number(seconds)?),
        (None, None, Some("1")) => Duration::from_secs(60),
        _ => return None,
    };
    (Duration::from_millis(100)..=Duration::from_secs(60)).contains(&gop).then_some(gop)
}

/// A number of digits only: no sign, no spaces.
fn number<T: FromStr>(value: &str) -> Option<T> {
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok()).flatten()
}

/// A value as it may stand in an error: its first 40 characters.
fn short(value: &str) -> String {
    value.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Settings, TestUrlError> {
        Settings::parse(&Url::parse(&format!("test://pattern{query}")).unwrap())
    }

    #[test]
    fn urls_say_what_they_mean() {
        for (query, canonical) in [
            ("", "?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=none"),
            ("/", "?size=1280x720&fps=25&bitrate=2M&gop=2s&audio=none"),
            ("?audio=opus&fps=30", "?size=1280x720&fps=30&bitrate=2M&gop=2s&audio=opus"),
            (
                "?size=16x16&bitrate=50k&gop=100ms&fps=1&audio=pcma",
                "?size=16x16&fps=1&bitrate=50k&gop=100ms&audio=pcma",
            ),
            (
                "?size=3840x2160&bitrate=50M&gop=1m&fps=60&audio=pcmu",
                "?size=3840x2160&fps=60&bitrate=50M&gop=60s&audio=pcmu",
            ),
            ("?bitrate=2.5M&gop=1500ms", "?size=1280x720&fps=25&bitrate=2500k&gop=1500ms&audio=none"),
        ] {
            let settings = parse(query).unwrap();
            assert_eq!(settings.to_string(), format!("test://pattern{canonical}"), "{query}");
            assert_eq!(parse(canonical), Ok(settings));
        }
        assert_eq!(parse("?gop=100ms&fps=1").unwrap().gop_frames(), 1);
        assert_eq!(parse("?gop=1500ms").unwrap().gop_frames(), 38);
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        for (query, expected) in [
            ("?size=1281x720", "size = \"1281x720\": must be WIDTHxHEIGHT"),
            ("?size=2160x3840", "size = \"2160x3840\": must be WIDTHxHEIGHT"),
            ("?size=720p", "size = \"720p\""),
            ("?size=+64x64", "size = \" 64x64\""),
            ("?fps=0", "fps = \"0\": must be a whole number"),
            ("?fps=61", "fps = \"61\""),
            ("?fps=29.97", "fps = \"29.97\""),
            ("?fps=", "fps = \"\""),
            ("?bitrate=2000000", "bitrate = \"2000000\": must be 50k to 50M bit/s, like 2M"),
            ("?bitrate=49k", "bitrate = \"49k\""),
            ("?bitrate=51M", "bitrate = \"51M\""),
            ("?bitrate=1.0001M", "bitrate = \"1.0001M\""),
            ("?bitrate=99999999999M", "bitrate"),
            ("?gop=2", "gop = \"2\": must be 100ms to 60s"),
            ("?gop=61s", "gop = \"61s\""),
            ("?gop=99ms", "gop = \"99ms\""),
            ("?audio=aac", "audio = \"aac\" is not built yet"),
            ("?audio=mp3", "audio = \"mp3\": must be none, opus, pcma or pcmu"),
            ("?frames=25", "unknown parameter \"frames\": there are size, fps, bitrate, gop and audio"),
            ("?fps=25&fps=30", "fps is given twice"),
            ("/bars", "the only picture is test://pattern"),
            (":80", "no user, password or port"),
        ] {
            let error = parse(query).unwrap_err().to_string();
            assert!(error.contains(expected), "{query}: {error}");
        }
        let error = parse("?fps=0&gop=0s&color=red").unwrap_err();
        assert_eq!(error.0.len(), 3, "{error}");
        let error = Settings::parse(&Url::parse("test://user:secret@pattern").unwrap()).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
        let error = Settings::parse(&Url::parse("test://bars").unwrap()).unwrap_err().to_string();
        assert!(error.contains("test://pattern"), "{error}");
    }
}
