//! Which parameter sets a picture needs: relay-media's access unit builder decides, but is only asked when that may
//! have changed since it was asked for a picture of the same kind.

use bytes::Bytes;
use relay_media::{
    Codec,
    access_unit::{AccessUnitBuilder, Boundary, Syntax, Unfit},
    h264::MAX_PARAMETER_SET_BYTES,
    nal::{LENGTH_BYTES, split_length_prefixed},
};

/// Parameter sets of one picture that are looked at: the builder keeps 16 of each kind.
const MAX_SETS: usize = 48;

/// Enough of a slice to read its picture parameter set from.
const HEAD_BYTES: usize = 16;

/// An SEI with a recovery point of count 0 (H.264 §D.1.8), by which the builder knows a key frame that is no IDR.
const RECOVERY_POINT: [u8; 5] = [6, 6, 1, 0xc0, 0x80];

/// Remembers the parameter sets.
#[derive(Debug)]
pub(crate) struct Sets {
    builder: AccessUnitBuilder,
    /// The sets of the last picture that brought any, one after another behind their lengths.
    latest: Vec<u8>,
    /// They came twice in a row: to the builder, a PPS that stands before its new SPS counts from the second time on.
    is_latest_settled: bool,
    scratch: Vec<u8>,
    /// Picture parameter sets that have been asked about since the last change; the builder knows 16 at most.
    settled: Vec<u32>,
    /// What key frames are to have before them.
    before_key: Option<Bytes>,
}

/// What a picture needs of parameter sets.
#[derive(Debug)]
pub(crate) struct Needs {
    /// The codec, if it is another from this picture on.
    pub(crate) codec: Option<Codec>,
    /// NAL units behind their lengths that go before the picture's own; empty as a rule.
    pub(crate) before: Bytes,
}

impl Sets {
    pub(crate) fn new(syntax: Syntax) -> Self {
        let builder = AccessUnitBuilder::new(syntax);
        Self {
            builder,
            latest: Vec::new(),
            is_latest_settled: false,
            scratch: Vec::new(),
            settled: Vec::new(),
            before_key: None,
        }
    }

    /// How the NAL unit that begins with `head` stands to the picture before it.
    pub(crate) fn boundary(&self, head: &[u8]) -> Boundary {
        self.builder.boundary(head)
    }

    /// Takes note of the parameter sets of one picture.
    pub(crate) fn learn<'a>(&mut self, sets: impl Iterator<Item = &'a [u8]> + Clone) {
        let sets = sets.filter(|set| set.len() <= MAX_PARAMETER_SET_BYTES).take(MAX_SETS);
        self.scratch.clear();
        for set in sets.clone() {
            self.scratch.extend_from_slice(&set.len().to_be_bytes());
            self.scratch.extend_from_slice(set);
        }
        let is_same = self.scratch == self.latest;
        if self.scratch.is_empty() || is_same && self.is_latest_settled {
            return;
        }
        self.is_latest_settled = is_same;
        std::mem::swap(&mut self.scratch, &mut self.latest);
        sets.for_each(|set| self.builder.learn(set));
        self.settled.clear();
        self.before_key = None;
    }

    /// What a picture needs that begins with `slice`, which refers to `pps_id`.
    pub(crate) fn needs(
        &mut self,
        slice: &[u8],
        pps_id: Option<u32>,
        is_key: bool,
        is_idr: bool,
    ) -> Result<Needs, Unfit> {
        let is_settled = pps_id.is_some_and(|id| self.settled.contains(&id));
        if is_settled && !is_key {
            return Ok(Needs { codec: None, before: Bytes::new() });
        }
        if is_settled && let Some(before) = &self.before_key {
            return Ok(Needs { codec: None, before: before.clone() });
        }
        let mut own = 1;
        if is_key && !is_idr {
            self.builder.push(&RECOVERY_POINT);
            own += 1;
        }
        self.builder.push(slice.get(..HEAD_BYTES).unwrap_or(slice));
        let unit = self.builder.finish()?;
        if unit.codec.is_some() {
            self.settled.clear();
            self.before_key = None;
        }
        let nals = split_length_prefixed(&unit.payload).count().saturating_sub(own);
        let bytes: usize = split_length_prefixed(&unit.payload).take(nals).map(|nal| LENGTH_BYTES + nal.len()).sum();
        let before = unit.payload.slice(..bytes.min(unit.payload.len()));
        if let Some(id) = pps_id.filter(|id| !self.settled.contains(id)) {
            self.settled.push(id);
        }
        if is_key {
            self.before_key = Some(before.clone());
        }
        Ok(Needs { codec: unit.codec, before })
    }
}
