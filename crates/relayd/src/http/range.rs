//! `Range: bytes=…` (RFC 9110 §14): one range of a file.

/// What of a file is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// `first` to `last`, both included, both inside the file.
    Part {
        /// From 0.
        first: u64,
        /// Never less than `first`.
        last: u64,
    },
    /// Nothing that the file has: 416.
    Nothing,
}

impl Asked {
    /// Reads a `Range` header for a file of `len` bytes. What is not one valid byte range asks for the whole: RFC
    /// 9110 §14.2 has a server ignore it.
    pub(super) fn parse(header: Option<&str>, len: u64) -> Self {
        let spec = header.and_then(|header| header.trim().strip_prefix("bytes="));
        let Some((first, last)) = spec.filter(|spec| !spec.contains(',')).and_then(|spec| spec.split_once('-')) else {
            return Self::Whole;
        };
        match (position(first), position(last)) {
            // §14.1.2: "-500", the last 500 bytes.
            (Position::None, Position::At(suffix)) => match suffix.min(len) {
                0 => Self::Nothing,
                suffix => Self::Part { first: len - suffix, last: len - 1 },
            },
            (Position::At(first), Position::At(last)) if last < first => Self::Whole,
            (Position::At(first), _) if first >= len => Self::Nothing,
            (Position::At(first), Position::At(last)) => Self::Part { first, last: last.min(len - 1) },
            (Position::At(first), Position::None) => Self::Part { first, last: len - 1 },
            _ => Self::Whole,
        }
    }
}

enum Position {
    None,
    At(u64),
    Bad,
}

fn position(text: &str) -> Position {
    match text.trim() {
        "" => Position::None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_or(Position::Bad, Position::At)
        }
        _ => Position::Bad,
    }
}

#[cfg(test)]
mod tests {
    use super::Asked::{self, Nothing, Part, Whole};

    #[test]
    fn ranges_are_read_as_rfc_9110_tells() {
        for (header, len, expected) in [
            (None, 10, Whole),
            (Some("bytes=0-"), 10, Part { first: 0, last: 9 }),
            (Some("bytes=2-4"), 10, Part { first: 2, last: 4 }),
            (Some("bytes=9-99"), 10, Part { first: 9, last: 9 }),
            (Some("bytes=-3"), 10, Part { first: 7, last: 9 }),
            (Some("bytes=-99"), 10, Part { first: 0, last: 9 }),
            (Some("bytes=10-"), 10, Nothing),
            (Some("bytes=-0"), 10, Nothing),
            (Some("bytes=0-"), 0, Nothing),
            (Some("bytes=-1"), 0, Nothing),
            (Some("bytes=4-2"), 10, Whole),
            (Some("bytes=0-1,3-4"), 10, Whole),
            (Some("bytes=x-1"), 10, Whole),
            (Some("bytes=-"), 10, Whole),
            (Some("bytes=99999999999999999999-"), 10, Whole),
            (Some("bytes=+1-2"), 10, Whole),
            (Some("lines=0-1"), 10, Whole),
            (Some(""), 10, Whole),
        ] {
            assert_eq!(Asked::parse(header, len), expected, "{header:?} of {len}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_range_leaves_the_file(header in "(bytes=)?[0-9]{0,20}-[0-9]{0,20}|.{0,30}", len: u64) {
            if let Part { first, last } = Asked::parse(Some(&header), len) {
                proptest::prop_assert!(first <= last && last < len);
            }
        }
    }
}
