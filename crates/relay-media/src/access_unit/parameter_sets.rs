//! The parameter sets seen so far, and which of them the track's codec is made of.
//!
//! A track holds one set of each kind. Streams with more (a PPS for I and another for P pictures) are carried by
//! putting the others into each key frame, where decoders look for them too.

use bytes::Bytes;
use h264_reader::rbsp::{BitRead, BitReader};

use super::{Codec, LENGTH_BYTES, Syntax, Unfit, h264, h265};

/// Sets kept of each kind. The standards allow 32 SPSs and 256 PPSs; encoders use one to four. With at most
/// [`h264::MAX_PARAMETER_SET_BYTES`] each, 128 KiB in all.
const MAX_SETS: usize = 16;

/// What was learnt.
#[derive(Debug, Default)]
pub(super) struct ParameterSets {
    /// H.265 only; one.
    vps: Bytes,
    /// By `seq_parameter_set_id`; in H.265, where it stands behind a long structure, one.
    sps: Vec<(u32, Bytes)>,
    pps: Vec<PictureSet>,
    active: Option<Active>,
    changed_since_activation: bool,
    changed_since_prepending: bool,
}

#[derive(Debug)]
struct PictureSet {
    id: u32,
    sps_id: u32,
    nal: Bytes,
    /// Its SPS was replaced after it came: it may be meant for the old one.
    stale: bool,
}

#[derive(Debug)]
struct Active {
    sps_id: u32,
    pps_id: u32,
    codec: Codec,
}

impl ParameterSets {
    /// Takes note of `nal` if it is a parameter set; true if it was one.
    pub(super) fn learn(&mut self, syntax: Syntax, nal: &[u8]) -> bool {
        let (Some(&header), kinds) = (nal.first(), Kinds::of(syntax)) else { return false };
        let kind = match syntax {
            Syntax::H264 => h264::nal_type(header),
            Syntax::H265 => h265::nal_type(header),
        };
        if ![kinds.vps, Some(kinds.sps), Some(kinds.pps)].contains(&Some(kind)) {
            return false;
        }
        if nal.len() > h264::MAX_PARAMETER_SET_BYTES {
            return true;
        }
        if Some(kind) == kinds.vps {
            if self.vps != nal {
                self.vps = Bytes::copy_from_slice(nal);
                self.changed();
            }
        } else if kind == kinds.sps {
            self.learn_sps(syntax, nal);
        } else {
            self.learn_pps(syntax, nal);
        }
        true
    }

    /// Makes the sets that a picture refers to the track's, unless those in use will do. The codec if it changed.
    ///
    /// Sticks to the PPS in use while pictures refer to the same SPS: others are carried by
    /// [`prepend_others`](Self::prepend_others).
    pub(super) fn activate(&mut self, syntax: Syntax, pps_id: Option<u32>) -> Result<Option<Codec>, Unfit> {
        let pps_id = pps_id.or(self.active.as_ref().map(|active| active.pps_id));
        let wanted = match pps_id {
            Some(id) => self.pps.iter().find(|set| set.id == id),
            None => self.pps.first(),
        };
        let wanted = wanted.ok_or(Unfit::NoParameterSets)?;
        let mut chosen = wanted;
        if let Some(active) = &self.active
            && active.sps_id == wanted.sps_id
        {
            if !self.changed_since_activation {
                return Ok(None);
            }
            let in_use = |set: &&PictureSet| set.id == active.pps_id && set.sps_id == active.sps_id && !set.stale;
            chosen = self.pps.iter().find(in_use).unwrap_or(wanted);
        }
        let (id, sps) = self.sps.iter().find(|(id, _)| *id == chosen.sps_id).ok_or(Unfit::NoParameterSets)?;
        let codec = match syntax {
            Syntax::H264 => Codec::H264(h264::Config::parse(sps, &chosen.nal)?),
            Syntax::H265 if self.vps.is_empty() => return Err(Unfit::NoParameterSets),
            Syntax::H265 => Codec::H265(h265::Config::parse(&self.vps, sps, &chosen.nal)?),
        };
        let is_new = self.active.as_ref().is_none_or(|active| active.codec != codec);
        self.active = Some(Active { sps_id: *id, pps_id: chosen.id, codec: codec.clone() });
        self.changed_since_activation = false;
        Ok(is_new.then_some(codec))
    }

    /// Puts the sets that are not the track's before the NAL units of a key frame, or of any picture after one of
    /// them changed. A second copy of the picture, for streams with several PPSs only.
    pub(super) fn prepend_others(&mut self, syntax: Syntax, key: bool, buffer: &mut Vec<u8>) {
        let changed = std::mem::take(&mut self.changed_since_prepending);
        let Some(active) = self.active.as_ref().filter(|_| key || changed) else { return };
        if self.pps.len() <= 1 && self.sps.len() <= 1 {
            return;
        }
        let sps = self.sps.iter().filter(|(id, _)| *id != active.sps_id && syntax == Syntax::H264).map(|(_, nal)| nal);
        let pps = self.pps.iter().filter(|set| set.id != active.pps_id && !set.stale).map(|set| &set.nal);
        let others: Vec<_> = sps.chain(pps).collect();
        let more: usize = others.iter().map(|nal| LENGTH_BYTES + nal.len()).sum();
        if more == 0 {
            return;
        }
        let mut longer = Vec::with_capacity(more + buffer.len());
        for nal in others {
            longer.extend_from_slice(&u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes());
            longer.extend_from_slice(nal);
        }
        longer.extend_from_slice(buffer);
        *buffer = longer;
    }

    /// Temporal sub-layers of the stream in use; 1 where they don't exist or aren't known.
    pub(super) fn sub_layers(&self) -> u8 {
        match self.active.as_ref().map(|active| &active.codec) {
            Some(Codec::H265(config)) => config.sub_layers(),
            _ => 1,
        }
    }

    fn learn_sps(&mut self, syntax: Syntax, nal: &[u8]) {
        let id = match syntax {
            // Behind the header, profile_idc, the constraint flags and level_idc (§7.3.2.1.1).
            Syntax::H264 => nal.get(4..).and_then(|body| BitReader::new(body).read_ue("seq_parameter_set_id").ok()),
            Syntax::H265 => Some(0),
        };
        let Some(id) = id else { return };
        let full = self.sps.len() >= MAX_SETS;
        match self.sps.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) if known == nal => return,
            Some((_, known)) => {
                *known = Bytes::copy_from_slice(nal);
                self.pps.iter_mut().filter(|set| set.sps_id == id).for_each(|set| set.stale = true);
            }
            None if full => return,
            None => self.sps.push((id, Bytes::copy_from_slice(nal))),
        }
        self.changed();
    }

    fn learn_pps(&mut self, syntax: Syntax, nal: &[u8]) {
        let header_bytes = if syntax == Syntax::H264 { 1 } else { 2 };
        let mut bits = BitReader::new(nal.get(header_bytes..).unwrap_or_default());
        let Ok(id) = bits.read_ue("pic_parameter_set_id") else { return };
        let Ok(sps_id) = bits.read_ue("seq_parameter_set_id") else { return };
        let sps_id = if syntax == Syntax::H264 { sps_id } else { 0 };
        let full = self.pps.len() >= MAX_SETS;
        match self.pps.iter_mut().find(|set| set.id == id) {
            Some(set) if set.nal == nal && !set.stale => return,
            Some(set) => *set = PictureSet { id, sps_id, nal: Bytes::copy_from_slice(nal), stale: false },
            None if full => return,
            None => self.pps.push(PictureSet { id, sps_id, nal: Bytes::copy_from_slice(nal), stale: false }),
        }
        self.changed();
    }

    fn changed(&mut self) {
        self.changed_since_activation = true;
        self.changed_since_prepending = true;
    }
}

/// The NAL unit types of parameter sets.
struct Kinds {
    vps: Option<u8>,
    sps: u8,
    pps: u8,
}

impl Kinds {
    fn of(syntax: Syntax) -> Self {
        match syntax {
            Syntax::H264 => Self { vps: None, sps: h264::NAL_SPS, pps: h264::NAL_PPS },
            Syntax::H265 => Self { vps: Some(h265::NAL_VPS), sps: h265::NAL_SPS, pps: h265::NAL_PPS },
        }
    }
}
