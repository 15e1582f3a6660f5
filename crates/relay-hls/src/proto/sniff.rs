//! Whether what came is media at all: error pages come with status 200.

use super::{
    cause::{Cause, reason},
    event::Head,
};

/// How many bytes tell.
pub(crate) const SNIFF_BYTES: usize = 8;

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looks {
    /// MPEG-TS, which comes in packets of 188 bytes.
    Ts,
    /// Some other media that is known.
    Media,
    /// Nothing that is known, but no text either.
    Unknown,
}

/// Looks at the first bytes of a segment.
pub(crate) fn looks(bytes: &[u8], head: Option<&Head>, is_encrypted: bool) -> Result<Looks, Cause> {
    let looks = match bytes {
        [0x47, ..] => Looks::Ts,
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] | [0x0b, 0x77, ..] => Looks::Media,
        [_, _, _, _, b'f' | b's' | b'm' | b'e' | b'p' | b'u', kind @ ..]
            if [b"typ", b"oof", b"oov", b"dat", b"msg", b"rft", b"idx", b"ree", b"kip", b"uid", b"ssi"]
                .iter()
                .any(|rest| kind.starts_with(*rest)) =>
        {
            Looks::Media
        }
        _ => Looks::Unknown,
    };
    let content_type = head.and_then(|head| head.content_type.as_deref()).unwrap_or_default();
    let says_text = says_text(head);
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let is_text = matches!(first, Some(b'<' | b'{' | b'#')) && bytes.is_ascii();
    match looks {
        Looks::Unknown if says_text || (is_text && !is_encrypted) => {
            let shown: String = bytes.escape_ascii().to_string();
            let text = format!("no media: {content_type} beginning with \"{shown}\"");
            Err(Cause::cheap(reason::NOT_MEDIA, text))
        }
        Looks::Unknown if is_encrypted => {
            Err(Cause::cheap(reason::WRONG_KEY, "the key does not decrypt the segment to media"))
        }
        looks => Ok(looks),
    }
}

/// The answer calls itself a page.
pub(crate) fn says_text(head: Option<&Head>) -> bool {
    let content_type = head.and_then(|head| head.content_type.as_deref()).unwrap_or_default().to_ascii_lowercase();
    ["text/html", "application/json", "text/xml", "application/xml"].iter().any(|kind| content_type.starts_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_from_media() {
        let html = Head { content_type: Some("text/html; charset=utf-8".into()), ..Head::default() };
        for (bytes, head, is_encrypted, expected) in [
            (&b"\x47\x40\x00\x10\x00\x00\x00\x00"[..], None, false, Ok(Looks::Ts)),
            (b"\x47\x40\x00\x10\x00\x00\x00\x00", Some(&html), true, Ok(Looks::Ts)),
            (b"\0\0\0\x18styp", None, true, Ok(Looks::Media)),
            (b"\0\0\0\x18moof", None, false, Ok(Looks::Media)),
            (b"ID3\x04\0\0\0\0", None, false, Ok(Looks::Media)),
            (b"\xff\xf1\x50\x80", None, false, Ok(Looks::Media)),
            (b"<!DOCTYP", None, false, Err(reason::NOT_MEDIA)),
            (b"  {\"err", None, false, Err(reason::NOT_MEDIA)),
            (b"#EXTM3U\n", None, false, Err(reason::NOT_MEDIA)),
            (b"Sorry, n", Some(&html), false, Err(reason::NOT_MEDIA)),
            (b"\x01\x02\x03\x04", None, false, Ok(Looks::Unknown)),
            (b"\x01\x02\x03\x04", None, true, Err(reason::WRONG_KEY)),
        ] {
            assert_eq!(looks(bytes, head, is_encrypted).map_err(|cause| cause.reason), expected, "{bytes:?}");
        }
    }
}
