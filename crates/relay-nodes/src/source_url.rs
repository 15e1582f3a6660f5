//! From a source's URL to its node.

use relay_graph::Source;
use url::Url;

use crate::{HlsOptions, HlsSource, RtspOptions, RtspSource, TestSource, TestUrlError};

/// The source that a URL names.
///
/// # Errors
/// The URL cannot be read, its scheme is unknown or not built yet, or the node refuses a part of it. No error holds a
/// password.
pub fn source(url: &str) -> Result<Box<dyn Source>, SourceUrlError> {
    let url = Url::parse(url.trim())?;
    match url.scheme() {
        "rtsp" if url.host_str().is_none_or(str::is_empty) => Err(url::ParseError::EmptyHost.into()),
        "rtsp" => Ok(Box::new(RtspSource::new(RtspOptions::new(url)))),
        "http" | "https" => Ok(Box::new(HlsSource::new(HlsOptions::new(url)))),
        "test" => Ok(Box::new(TestSource::parse(&url)?)),
        scheme @ ("rtsps" | "srt" | "stream") => Err(SourceUrlError::NotBuiltYet { scheme: scheme.to_owned() }),
        // Not echoed: what looks like a scheme may be the user of `user:password@host`.
        _ if url.cannot_be_a_base() => Err(url::ParseError::RelativeUrlWithoutBase.into()),
        scheme => Err(SourceUrlError::UnknownScheme { scheme: scheme.chars().take(20).collect() }),
    }
}

/// Why a URL names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceUrlError {
    /// It is no URL at all.
    #[error("not a URL like rtsp://host/path, https://host/path.m3u8 or test://pattern: {0}")]
    Syntax(#[from] url::ParseError),
    /// A scheme that will be known some day.
    #[error("{scheme}: sources are not built yet; there are rtsp://, https:// and test://")]
    NotBuiltYet {
        /// The scheme.
        scheme: String,
    },
    /// A scheme that nobody knows.
    #[error("unknown scheme {scheme:?}; there are rtsp://, https:// and test://")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
    },
    /// A `test://` URL with something wrong in it.
    #[error(transparent)]
    Test(#[from] TestUrlError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls_name_sources_or_are_refused_in_words() {
        for (url, expected) in [
            ("test://pattern?fps=0", "fps = \"0\""),
            ("rtsps://user:secret@cam/1", "rtsps: sources are not built yet"),
            ("srt://host:9000?passphrase=secret", "srt: sources are not built yet"),
            ("https://user:secret@:1/live.m3u8", "empty host"),
            ("stream:front", "stream: sources are not built yet"),
            ("rtmp://user:secret@host/app", "unknown scheme \"rtmp\"; there are rtsp://, https:// and test://"),
            ("user:secret@host", "not a URL"),
            ("/dev/video0", "not a URL"),
            ("", "not a URL"),
            ("rtsp:///ch0", "empty host"),
            ("rtsp:user:secret@cam/1", "empty host"),
            ("rtsp://user:secret@cam:port/1", "invalid port"),
            ("test://user:secret@pattern", "no user, password or port"),
        ] {
            let error = source(url).err().expect(url).to_string();
            assert!(error.contains(expected), "{url}: {error}");
            assert!(!error.contains("secret"), "{url}: {error}");
        }
        let camera = source("rtsp://user:secret@10.0.0.5/ch0").unwrap().describe();
        assert!(camera.kind == "rtsp" && !camera.url.contains("secret"), "{camera:?}");
        let playlist = source("https://user:secret@host/live.m3u8?token=secret").unwrap().describe();
        assert!(playlist.kind == "hls" && !playlist.url.contains("secret"), "{playlist:?}");
        assert_eq!(source(" test://pattern ").unwrap().describe().kind, "test");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", query in "[a-z0-9=&.xMks%+-]{0,60}") {
            let _ = source(&text);
            if let Ok(source) = super::source(&format!("test://pattern?{query}")) {
                let url = source.describe().url;
                prop_assert_eq!(super::source(&url).map(|again| again.describe().url), Ok(url));
            }
        }
    }
}
