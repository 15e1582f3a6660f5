//! Tags (RFC 9559 §5.1.8): names and values between clusters, which belong to the fragment that follows.

use crate::{
    Element, ReadError, TAG_NAME_BYTES_MAX, TAG_VALUE_BYTES_MAX, TAGS_MAX, WriteError,
    ebml::{Whole, put},
};

/// The name of the tag that tells the service that the fragment before it is whole, though no cluster follows.
pub const END_OF_FRAGMENT: &str = "AWS_KINESISVIDEO_END_OF_FRAGMENT";

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The name; those that begin with `AWS` are the service's.
    pub name: String,
    /// The value; it may be empty.
    pub value: String,
}

impl Tag {
    /// A tag with this name and value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    /// Whether it ends a fragment.
    pub fn is_end_of_fragment(&self) -> bool {
        self.name == END_OF_FRAGMENT
    }
}

/// A Tags element with one Tag that has no Targets: it is about everything, as the service's own producer writes it.
pub(crate) fn write(tags: &[(&str, &str)]) -> Result<Vec<u8>, WriteError> {
    let fits = |(name, value): &(&str, &str)| {
        (1..=TAG_NAME_BYTES_MAX).contains(&name.len()) && value.len() <= TAG_VALUE_BYTES_MAX && !name.contains('\0')
    };
    if tags.is_empty() || tags.len() > TAGS_MAX || !tags.iter().all(fits) {
        return Err(WriteError::Tags);
    }
    let mut pairs = Vec::new();
    for (name, value) in tags {
        let mut pair = Vec::new();
        put(&mut pair, Element::TAG_NAME, name.as_bytes());
        put(&mut pair, Element::TAG_STRING, value.as_bytes());
        put(&mut pairs, Element::SIMPLE_TAG, &pair);
    }
    let mut tag = Vec::new();
    put(&mut tag, Element::TAG, &pairs);
    let mut out = Vec::new();
    put(&mut out, Element::TAGS, &tag);
    Ok(out)
}

/// All names and values of a Tags element, whatever their targets; without binary values and nested tags.
pub(crate) fn read(tags: &Whole<'_>) -> Result<Vec<Tag>, ReadError> {
    let mut all = Vec::new();
    for tag in tags.children() {
        let tag = tag?;
        if tag.element != Element::TAG {
            continue;
        }
        for pair in tag.children() {
            let pair = pair?;
            if pair.element == Element::SIMPLE_TAG {
                all.push(read_pair(&pair)?);
            }
        }
    }
    Ok(all)
}

fn read_pair(pair: &Whole<'_>) -> Result<Tag, ReadError> {
    let (mut name, mut value) = (None, None);
    for child in pair.children() {
        let child = child?;
        match child.element {
            Element::TAG_NAME => child.once(&mut name, Whole::text)?,
            Element::TAG_STRING => child.once(&mut value, Whole::text)?,
            _ => {}
        }
    }
    let name = pair.must(name, Element::TAG_NAME)?;
    Ok(Tag { name, value: value.unwrap_or_default() })
}
