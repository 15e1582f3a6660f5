//! Names of recordings: `2026-11-21T02-30-00.123Z.mp4`, the time of day (UTC) at which they begin to play. They sort by
//! time, and hold no character that any file system or URL minds.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use relay_media::UtcTime;

const FORMAT: &str = "%Y-%m-%dT%H-%M-%S";

/// The name of a recording that begins at `start`, to the millisecond.
pub fn file_name(start: UtcTime) -> String {
    let millis = start.unix_millis();
    let time = Timestamp::from_millisecond(millis).unwrap_or_default().to_zoned(TimeZone::UTC);
    format!("{}.{:03}Z.mp4", time.strftime(FORMAT), millis.rem_euclid(1_000))
}

/// When the recording of this name begins; `None` if it is no name of ours. So a name that comes from outside, once
/// it has passed here, is a plain file name.
pub fn start_of(name: &str) -> Option<UtcTime> {
    let (time, millis) = name.strip_suffix("Z.mp4")?.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let shape = time.len() == "2026-11-21T02-30-00".len() && millis.len() == 3 && digits(millis);
    let millis: i64 = millis.parse().ok().filter(|_| shape)?;
    let seconds = DateTime::strptime(FORMAT, time).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    let start = UtcTime::from_unix_nanos(seconds.checked_mul(1_000)?.checked_add(millis)?.checked_mul(1_000_000)?);
    (file_name(start) == name).then_some(start)
}

/// Whether a stream's name may be a directory's: not empty, no separator, and none of `.` and `..`.
pub fn is_safe_name(stream: &str) -> bool {
    !stream.is_empty() && !stream.starts_with('.') && !stream.contains(['/', '\\', '\0'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_the_start_in_utc() {
        for (nanos, name) in [
            (1_795_228_200_123_456_789, "2026-11-21T02-30-00.123Z.mp4"),
            (0, "1970-01-01T00-00-00.000Z.mp4"),
            (-1, "1969-12-31T23-59-59.999Z.mp4"),
            (951_782_400_000_000_000, "2000-02-29T00-00-00.000Z.mp4"),
        ] {
            assert_eq!(file_name(UtcTime::from_unix_nanos(nanos)), name);
            assert_eq!(start_of(name).unwrap().unix_millis(), nanos.div_euclid(1_000_000), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "",
            ".mp4",
            "2026-11-21T02-30-00Z.mp4",
            "2026-11-21T02-30-00.12Z.mp4",
            "2026-11-21T02-30-00.+12Z.mp4",
            "2026-02-30T02-30-00.123Z.mp4",
            "2026-11-21T02-30-60.123Z.mp4",
            "2026-11-21T02-30-00.123Z.mp4.part",
            "../2026-11-21T02-30-00.123Z.mp4",
        ] {
            assert_eq!(start_of(name), None, "{name}");
        }
        for (name, safe) in [("yard", true), ("a b", true), ("", false), ("..", false), (".x", false), ("a/b", false)] {
            assert_eq!(is_safe_name(name), safe, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn every_millisecond_has_its_name(millis in 0_i64..9_000_000_000_000) {
            let start = UtcTime::from_unix_nanos(millis * 1_000_000);
            prop_assert_eq!(start_of(&file_name(start)), Some(start));
        }

        #[test]
        fn any_text_is_looked_at(name in ".{0,40}") {
            start_of(&name);
        }
    }
}
