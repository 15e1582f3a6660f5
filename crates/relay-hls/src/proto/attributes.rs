//! Attribute lists and the numbers inside (RFC 8216 §4.2).

use std::time::Duration;

use relay_media::UtcTime;

/// The attributes of a tag, in their order. Lenient: spaces around commas and equals signs, and a comma at the end,
/// are passed over; quotes that are never closed reach to the end of the line.
pub(crate) struct Attributes<'a>(&'a str);

impl<'a> Attributes<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// The value of the first attribute called `name`, without its quotes.
    pub(crate) fn get(text: &'a str, name: &str) -> Option<&'a str> {
        Self::new(text).find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([',', ' ', '\t']);
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, rest.split_once(',').map_or("", |(_, rest)| rest))
            }
            None => {
                let (value, rest) = rest.split_once(',').unwrap_or((rest, ""));
                (value.trim_end(), rest)
            }
        };
        self.0 = rest;
        Some((name.trim(), value))
    }
}

/// `YES`.
pub(crate) fn is_yes(value: Option<&str>) -> bool {
    value == Some("YES")
}

/// The longest duration taken from a playlist: a day. Longer ones are no segments but mistakes.
const SECONDS_MAX: u64 = 86_400;

/// Decimal seconds as a duration, to the nanosecond; `None` if they are none, negative or longer than a day.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let seconds = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0_u32, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    (seconds <= SECONDS_MAX).then(|| Duration::new(seconds, nanos))
}

/// An ISO 8601 date and time (RFC 8216 §4.3.2.6). Without an offset it is taken as UTC: encoders forget it.
pub(crate) fn date_time(text: &str) -> Option<UtcTime> {
    let text = text.trim();
    let nanos = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp.as_nanosecond(),
        Err(_) => {
            let local: jiff::civil::DateTime = text.parse().ok()?;
            jiff::tz::Offset::UTC.to_timestamp(local).ok()?.as_nanosecond()
        }
    };
    Some(UtcTime::from_unix_nanos(i64::try_from(nanos).ok()?))
}

/// Hexadecimal digits behind `0x`: at most 128 bits, big-endian (RFC 8216 §4.2).
pub(crate) fn hexadecimal(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let is_short = (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_short.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_lists() {
        for (text, expected) in [
            ("A=1,B=\"x,y=z\",C=0xAB", vec![("A", "1"), ("B", "x,y=z"), ("C", "0xAB")]),
            (" A = 1 , B=\"x\" ,C=", vec![("A", "1"), ("B", "x"), ("C", "")]),
            ("A=\"open", vec![("A", "open")]),
            ("A", vec![]),
            (",,A=1,,", vec![("A", "1")]),
        ] {
            assert_eq!(Attributes::new(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn numbers() {
        for (text, expected) in [
            ("4", Some(4_000_000_000)),
            ("4.004", Some(4_004_000_000)),
            (".5", Some(500_000_000)),
            ("1.0000000019", Some(1_000_000_001)),
            ("86401", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("1e3", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(seconds(text).map(|duration| duration.as_nanos()), expected, "{text}");
        }
        for (text, expected) in [
            ("2026-11-21T02:30:00.123Z", Some(1_795_228_200_123)),
            ("2026-11-21T03:30:00.123+01:00", Some(1_795_228_200_123)),
            ("2026-11-21T03:30:00.123+0100", Some(1_795_228_200_123)),
            ("2026-11-21T02:30:00.123", Some(1_795_228_200_123)),
            ("yesterday", None),
        ] {
            assert_eq!(date_time(text).map(|utc| utc.unix_millis()), expected, "{text}");
        }
        for (text, expected) in [
            ("0x1", Some(1)),
            ("0X0000000000000000000000000000000F", Some(15)),
            ("0x", None),
            ("1", None),
            ("0x+1", None),
            ("0x000000000000000000000000000000000", None),
        ] {
            assert_eq!(hexadecimal(text).map(u128::from_be_bytes), expected, "{text}");
        }
    }
}
