//! Durations and sizes as people write them: a number and its unit.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::reader::Wrong;

/// A duration with its unit: `250ms`, `5s`, `1m`, `1h30m`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub Duration);

impl Time {
    /// Whole seconds.
    pub(crate) const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// Milliseconds.
    pub(crate) const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let millis = sum(text, &TIME_UNITS, "a duration", "5s")?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

/// Units of time in milliseconds.
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let fits = TIME_UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis % unit == 0);
        let (name, unit) = fits.copied().unwrap_or(("ms", 1));
        write!(f, "{}{name}", millis / unit)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number with its unit, or several: ms, s, m, h, d.",
            "pattern": "^([0-9]+(ms|s|m|h|d))+$",
            "examples": ["250ms", "5s", "1h30m", "7d"]
        })
    }
}

/// A number of bytes with its unit: `64MiB`, `50GiB`, `500MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub u64);

impl Size {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        sum(text, &SIZE_UNITS, "a size", "64MiB").map(Self)
    }
}

/// Units of size in bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

impl fmt::Display for Size {
    /// In the largest binary unit, with one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match binary.into_iter().find(|(_, shift)| self.0 >> shift > 0) {
            Some((name, shift)) => {
                let tenths = (u128::from(self.0) * 10) >> shift;
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A number of bytes with its unit: B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024).",
            "pattern": "^[0-9]+([KMGT]i?)?B$",
            "examples": ["64MiB", "50GiB", "500MB"]
        })
    }
}

/// Bits per second with their unit: `500k`, `2M`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BitRate(pub u64);

/// Units of bit rates.
const BIT_RATE_UNITS: [(&str, u64); 3] = [("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];

impl BitRate {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        sum(text, &BIT_RATE_UNITS, "a bit rate", "2M").map(Self)
    }
}

impl JsonSchema for BitRate {
    fn schema_name() -> Cow<'static, str> {
        "BitRate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "Bits per second with their unit: k, M, G (powers of 1000).",
            "pattern": "^[0-9]+[kMG]$",
            "examples": ["500k", "2M"]
        })
    }
}

/// Adds up the parts of `text`, each a whole number and one of `units`.
fn sum(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, Wrong> {
    let names = || units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return Err(Wrong::new(format!("is empty: write {what} such as \"{example}\"")));
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let Ok(number) = number.parse::<u64>() else {
            return Err(Wrong::new(format!(
                "is not {what}: write a whole number with its unit, such as \"{example}\""
            )));
        };
        if unit.is_empty() {
            let advice = format!("has no unit: write {what} with one of {}, such as \"{example}\"", names());
            return Err(Wrong::new(advice));
        }
        let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
            return Err(Wrong::new(format!("has the unknown unit {unit:?}: use one of {}", names())));
        };
        let part = number.checked_mul(*factor);
        total = part.and_then(|part| total.checked_add(part)).ok_or_else(|| Wrong::new("is too large"))?;
        rest = tail.trim_start();
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_parse_with_their_units() {
        for (text, millis) in [
            ("250ms", Some(250)),
            ("5s", Some(5_000)),
            ("1h30m", Some(5_400_000)),
            ("7d", Some(604_800_000)),
            ("7 d", Some(604_800_000)),
            ("7 days", None),
            ("5", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("5 parsecs", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ] {
            let parsed = Time::parse(text).ok().map(|time| time.0.as_millis());
            assert_eq!(parsed, millis, "{text:?}");
        }
        for (text, bytes) in [
            ("64MiB", Some(64 << 20)),
            ("5GB", Some(5_000_000_000)),
            ("12B", Some(12)),
            ("64M", None),
            ("64mib", None),
            ("64", None),
        ] {
            assert_eq!(Size::parse(text).ok().map(|size| size.0), bytes, "{text:?}");
        }
    }

    #[test]
    fn they_print_as_they_are_written() {
        assert_eq!(Time::secs(90).to_string(), "90s");
        assert_eq!(Time::secs(604_800).to_string(), "7d");
        assert_eq!(Time::millis(1_500).to_string(), "1500ms");
        assert_eq!(Size(64 << 20).to_string(), "64.0 MiB");
        assert_eq!(Size(1 << 30).to_string(), "1.0 GiB");
    }
}
