//! Keys and initialisation sections, kept for the segments to come.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use url::Url;

use super::{
    cause::{Cause, reason},
    decrypt::{self, Decryptor},
    event::Head,
    exchange::Document,
    playlist::{Key, Map, Method, Span, resolve},
    redact::redacted,
    sniff::{self, SNIFF_BYTES},
};

/// The most keys remembered: one is in use, a few may come back.
const KEYS_MAX: usize = 16;
/// The most initialisation sections remembered, of at most 1 MiB each: one a variant or period.
const MAPS_MAX: usize = 4;

/// Keys and initialisation sections that were fetched.
#[derive(Debug, Default)]
pub(crate) struct Larder {
    keys: VecDeque<(Url, [u8; 16])>,
    maps: VecDeque<(Url, Option<Span>, Arc<Bytes>)>,
    /// The size of the last whole segment: what to reckon with when the next one's is not told.
    pub(crate) typical: u64,
}

impl Larder {
    pub(crate) fn key(&self, url: &Url) -> Option<[u8; 16]> {
        self.keys.iter().find(|(known, _)| known == url).map(|(_, key)| *key)
    }

    pub(crate) fn map(&self, url: &Url, span: Option<Span>) -> Option<Arc<Bytes>> {
        self.maps.iter().find(|(known, at, _)| known == url && *at == span).map(|(_, _, bytes)| bytes.clone())
    }

    /// Puts a key where it is found.
    pub(crate) fn store_key(&mut self, bytes: Vec<u8>, document: &Document) -> Result<(), Cause> {
        let url = document.exchange.url.clone();
        let key = <[u8; 16]>::try_from(bytes).map_err(|bytes| {
            let text = format!("the key from {} has {} bytes instead of 16", redacted(&url), bytes.len());
            Cause::cheap(reason::KEY_SIZE, text)
        })?;
        self.forget_key(&url);
        self.keys.push_front((url, key));
        self.keys.truncate(KEYS_MAX);
        Ok(())
    }

    /// This key may be wrong.
    pub(crate) fn forget_key(&mut self, url: &Url) {
        self.keys.retain(|(known, _)| known != url);
    }

    /// Puts an initialisation section where it is found.
    pub(crate) fn store_map(
        &mut self,
        bytes: Vec<u8>,
        document: &Document,
        map: &Map,
        base: &Url,
        sequence: u64,
    ) -> Result<(), Cause> {
        let cut = cut_span(bytes, document.head.as_ref(), map.span)?;
        let plain = match &map.key {
            None => Bytes::from(cut),
            Some(key) => {
                let bytes = self.key(&key_url(key, base)?).unwrap_or_default();
                let mut cipher = Decryptor::new(&bytes, &key.iv.unwrap_or_else(|| decrypt::iv_of(sequence)));
                let front = cipher.push(&cut);
                let wrong = || Cause::cheap(reason::WRONG_KEY, "the key does not decrypt the map");
                [front, cipher.finish().ok_or_else(wrong)?].concat().into()
            }
        };
        sniff::looks(plain.get(..SNIFF_BYTES).unwrap_or(&plain), document.head.as_ref(), false)?;
        self.maps.push_front((document.exchange.url.clone(), map.span, Arc::new(plain)));
        self.maps.truncate(MAPS_MAX);
        Ok(())
    }
}

/// Where a key is, if it is one of ours.
pub(crate) fn key_url(key: &Key, base: &Url) -> Result<Url, Cause> {
    if let Method::Other(name) = &key.method {
        let text = format!("segments are encrypted with {name}; only AES-128 is supported");
        return Err(Cause::slow(reason::ENCRYPTION, text));
    }
    resolve(base, &key.uri).ok_or_else(|| Cause::slow(reason::ENCRYPTION, "a key without an http URL"))
}

/// The bytes asked for, if the origin ignored the range.
fn cut_span(bytes: Vec<u8>, head: Option<&Head>, span: Option<Span>) -> Result<Vec<u8>, Cause> {
    let Some(span) = span else { return Ok(bytes) };
    let is_partial = head.is_some_and(|head| head.status == 206);
    let start = if is_partial { 0 } else { usize::try_from(span.offset).unwrap_or(usize::MAX) };
    let length = usize::try_from(span.length).unwrap_or(usize::MAX);
    let cut = bytes.get(start..start.saturating_add(length)).map(<[u8]>::to_vec);
    cut.ok_or_else(|| Cause::cheap(reason::TRUNCATED, "the initialisation section is too short"))
}
