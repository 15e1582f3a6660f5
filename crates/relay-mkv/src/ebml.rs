//! EBML's own layout (RFC 8794): IDs, sizes and values, written and read.

use crate::{Element, Fault, ReadError};

/// A size that is not told (RFC 8794 §6.2), in one byte.
pub(crate) const UNKNOWN_SIZE: u8 = 0xff;

/// Writes the ID.
pub(crate) fn put_id(out: &mut Vec<u8>, element: Element) {
    let bytes = element.id().to_be_bytes();
    out.extend(bytes.into_iter().skip_while(|byte| *byte == 0));
}

/// Writes an element with this body, its size in as few bytes as will do.
pub(crate) fn put(out: &mut Vec<u8>, element: Element, body: &[u8]) {
    put_id(out, element);
    let size = body.len() as u64;
    // A size of n bytes has 7n bits, and all ones means unknown (RFC 8794 §6.1).
    let length = (1..8_u32).find(|length| size < (1 << (7 * length)) - 1).unwrap_or(8);
    let marked = size | 1 << (7 * length);
    out.extend(marked.to_be_bytes().into_iter().skip(8 - length as usize));
    out.extend_from_slice(body);
}

/// Writes an unsigned integer in as few bytes as will do, at least one.
pub(crate) fn put_uint(out: &mut Vec<u8>, element: Element, value: u64) {
    let bytes = value.to_be_bytes();
    let zeros = (value.leading_zeros() as usize / 8).min(7);
    put(out, element, bytes.get(zeros..).unwrap_or_default());
}

/// Writes a 64-bit float.
pub(crate) fn put_float(out: &mut Vec<u8>, element: Element, value: f64) {
    put(out, element, &value.to_be_bytes());
}

/// What an element begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) element: Element,
    /// Bytes of the body; `None` where they are not told.
    pub(crate) size: Option<u64>,
    /// Bytes of ID and size.
    pub(crate) len: usize,
}

impl Head {
    /// The head at the start of `bytes`; `None` if it is not whole yet.
    pub(crate) fn read(bytes: &[u8]) -> Result<Option<Self>, Fault> {
        let Some(first) = bytes.first() else { return Ok(None) };
        let id_len = first.leading_zeros() as usize + 1;
        if id_len > 4 {
            return Err(Fault::Id);
        }
        let Some((id, rest)) = bytes.split_at_checked(id_len) else { return Ok(None) };
        let id = id.iter().fold(0_u32, |id, byte| id << 8 | u32::from(*byte));
        let ones = (1_u32 << (7 * id_len)) - 1;
        if id & ones == 0 || id & ones == ones {
            return Err(Fault::Id);
        }
        let element = Element::new(id);
        match vint(rest) {
            Vint::Short => Ok(None),
            Vint::Malformed => Err(Fault::Size(element)),
            Vint::Whole { value, len } => Ok(Some(Self { element, size: value, len: id_len + len })),
        }
    }
}

/// A variable-size integer without its length marker (RFC 8794 §4).
pub(crate) enum Vint {
    /// Its bytes are not all there.
    Short,
    /// More than eight bytes.
    Malformed,
    /// `None` is all ones.
    Whole { value: Option<u64>, len: usize },
}

/// Reads the integer at the start of `bytes`.
pub(crate) fn vint(bytes: &[u8]) -> Vint {
    let Some(first) = bytes.first() else { return Vint::Short };
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return Vint::Malformed;
    }
    let Some(all) = bytes.get(..len) else { return Vint::Short };
    let ones = (1_u64 << (7 * len)) - 1;
    let value = all.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)) & ones;
    Vint::Whole { value: (value != ones).then_some(value), len }
}

/// An element that is wholly in memory, with its offset in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    pub(crate) element: Element,
    pub(crate) body: &'a [u8],
    /// Where its ID is.
    pub(crate) offset: u64,
    /// Where its body is.
    pub(crate) body_offset: u64,
}

impl<'a> Whole<'a> {
    /// Its children, one after the other. Whatever is none ends them with an error.
    pub(crate) fn children(&self) -> Children<'a> {
        Children { parent: self.element, rest: self.body, offset: self.body_offset }
    }

    /// Unsigned integer (RFC 8794 §7.2); an empty one is 0.
    pub(crate) fn uint(&self) -> Result<u64, ReadError> {
        if self.body.len() > 8 {
            return Err(self.wrong("an integer of more than 8 bytes"));
        }
        Ok(self.body.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A rate in Hz, told as a float (RFC 8794 §7.3), to the nearest; from 1 up.
    pub(crate) fn hertz(&self) -> Result<u32, ReadError> {
        let value = match *self.body {
            [a, b, c, d] => f64::from(f32::from_be_bytes([a, b, c, d])),
            [a, b, c, d, e, f, g, h] => f64::from_be_bytes([a, b, c, d, e, f, g, h]),
            _ => return Err(self.wrong("a float of neither 4 nor 8 bytes")),
        };
        // Not a number is in no range.
        if !(1.0..=f64::from(u32::MAX)).contains(&value.round()) {
            return Err(self.wrong("no rate"));
        }
        Ok(value.round() as u32)
    }

    /// Text (RFC 8794 §7.4, §7.5), without the zeros that may pad it.
    pub(crate) fn text(&self) -> Result<String, ReadError> {
        let end = self.body.iter().position(|byte| *byte == 0).unwrap_or(self.body.len());
        let text = std::str::from_utf8(self.body.get(..end).unwrap_or_default());
        text.map(str::to_owned).map_err(|_| self.wrong("text that is not UTF-8"))
    }

    /// Reads its value into `slot`, which must be empty.
    pub(crate) fn once<T>(
        &self,
        slot: &mut Option<T>,
        read: impl FnOnce(&Self) -> Result<T, ReadError>,
    ) -> Result<(), ReadError> {
        if slot.is_some() {
            return Err(Fault::Duplicate(self.element).at(self.offset));
        }
        *slot = Some(read(self)?);
        Ok(())
    }

    /// What was read of a child that must be there.
    pub(crate) fn must<T>(&self, slot: Option<T>, element: Element) -> Result<T, ReadError> {
        slot.ok_or_else(|| Fault::Missing { element, parent: self.element }.at(self.offset))
    }

    /// An error about its value.
    pub(crate) fn wrong(&self, detail: &'static str) -> ReadError {
        Fault::Value { element: self.element, detail }.at(self.offset)
    }
}

/// Reads the elements of a master element.
#[derive(Debug)]
pub(crate) struct Children<'a> {
    parent: Element,
    rest: &'a [u8],
    offset: u64,
}

impl<'a> Iterator for Children<'a> {
    type Item = Result<Whole<'a>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset;
        match read_whole(self.rest, self.parent, offset) {
            Ok((whole, rest)) => {
                self.offset += (self.rest.len() - rest.len()) as u64;
                self.rest = rest;
                Some(Ok(whole))
            }
            Err(fault) => {
                self.rest = &[];
                Some(Err(fault.at(offset)))
            }
        }
    }
}

fn read_whole(bytes: &[u8], parent: Element, offset: u64) -> Result<(Whole<'_>, &[u8]), Fault> {
    let head = Head::read(bytes)?.ok_or(Fault::Cut(parent))?;
    let size = head.size.ok_or(Fault::UnknownSize(head.element))?;
    let body = bytes.get(head.len..).unwrap_or_default();
    let split = usize::try_from(size).ok().and_then(|size| body.split_at_checked(size));
    let (body, rest) = split.ok_or(Fault::Overrun(head.element))?;
    let body_offset = offset + head.len as u64;
    Ok((Whole { element: head.element, body, offset, body_offset }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_take_as_few_bytes_as_will_do() {
        for (length, head) in [(0, 2), (1, 2), (126, 2), (127, 3), (16_382, 3), (16_383, 4), (2_097_151, 5)] {
            let mut out = Vec::new();
            put(&mut out, Element::VOID, &vec![0; length]);
            let read = Head::read(&out).unwrap().unwrap();
            assert_eq!((read.element, read.size, read.len), (Element::VOID, Some(length as u64), head));
            assert_eq!(out.len(), head + length);
        }
    }

    #[test]
    fn integers_survive() {
        for (value, length) in [(0, 1), (1, 1), (255, 1), (256, 2), (1_000_000, 3), (u64::MAX, 8)] {
            let mut out = Vec::new();
            put_uint(&mut out, Element::TIMECODE, value);
            let (whole, rest) = read_whole(&out, Element::CLUSTER, 0).unwrap();
            assert_eq!((whole.uint(), whole.body.len(), rest.len()), (Ok(value), length, 0));
        }
    }

    #[test]
    fn heads_that_are_none() {
        for (bytes, expected) in [
            (&[0x08, 0, 0, 0][..], Fault::Id),
            (&[0xff, 0x80], Fault::Id),
            (&[0x80, 0x80], Fault::Id),
            (&[0x1f, 0xff, 0xff, 0xff], Fault::Id),
            (&[0xec, 0x00], Fault::Size(Element::VOID)),
        ] {
            assert_eq!(Head::read(bytes).unwrap_err(), expected, "{bytes:02x?}");
        }
        for bytes in [&[][..], &[0x1a], &[0x1a, 0x45, 0xdf], &[0x1a, 0x45, 0xdf, 0xa3], &[0xec, 0x01, 0xff]] {
            assert!(Head::read(bytes).unwrap().is_none(), "{bytes:02x?}");
        }
    }
}
