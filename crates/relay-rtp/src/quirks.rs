//! What was tolerated, refused or dropped, by name.

/// Something a peer did that the specifications don't allow or that cost a unit. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Quirk {
    /// RTP packets that never came, or came too late.
    PacketLost,
    /// A picture or frame dropped whole because a part of it was missing.
    UnitDamaged,
    /// A picture dropped because no key frame had come since the start or since a loss.
    UnitBeforeKey,
    /// An H.265 leading picture dropped because decoding began at the picture it follows.
    LeadingSkipped,
    /// A picture dropped because its parameter sets had not come.
    UnitWithoutParameters,
    /// A picture dropped because its parameter sets cannot be read.
    BadParameterSets,
    /// A picture or frame dropped because it passed the size limit.
    UnitTooLarge,
    /// Start codes inside an RTP payload (V380).
    AnnexBInPayload,
    /// The NAL unit type changes within a fragmented unit (Tiandy); the first counts.
    FragmentTypeChanged,
    /// The reserved bit of an FU header is set (RFC 6184 §5.8).
    FragmentReservedBit,
    /// A fragment without bytes, or an empty packet.
    EmptyFragment,
    /// A fragmented unit whose end bit never came, closed by the marker.
    FragmentEndMissing,
    /// A fragment of a unit whose start never came although no packet was lost.
    FragmentStartMissing,
    /// The marker bit on a packet that ends no picture: on SEI or parameter sets (LV-IP22IR40DVBL).
    MarkerWithoutPicture,
    /// The marker bit between slices of one picture; such a camera's markers are not believed any more.
    MarkerInsidePicture,
    /// An aggregation packet whose sizes run past its end.
    AggregateCut,
    /// Interleaved or extended payload structures, refused: STAP-B, MTAP, FU-B (RFC 6184 §5.4), PACI (RFC 7798 §4.4.4),
    /// AAC with interleaving (RFC 3640 §3.2.3.2).
    InterleavingRefused,
    /// A payload of a type that the specification leaves undefined, or too short for its headers.
    PayloadInvalid,
}

const COUNT: usize = Quirk::PayloadInvalid as usize + 1;

impl Quirk {
    /// Every quirk.
    pub const ALL: [Self; COUNT] = [
        Self::PacketLost,
        Self::UnitDamaged,
        Self::UnitBeforeKey,
        Self::LeadingSkipped,
        Self::UnitWithoutParameters,
        Self::BadParameterSets,
        Self::UnitTooLarge,
        Self::AnnexBInPayload,
        Self::FragmentTypeChanged,
        Self::FragmentReservedBit,
        Self::EmptyFragment,
        Self::FragmentEndMissing,
        Self::FragmentStartMissing,
        Self::MarkerWithoutPicture,
        Self::MarkerInsidePicture,
        Self::AggregateCut,
        Self::InterleavingRefused,
        Self::PayloadInvalid,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::PacketLost => "packet_lost",
            Self::UnitDamaged => "unit_damaged",
            Self::UnitBeforeKey => "unit_before_key",
            Self::LeadingSkipped => "leading_skipped",
            Self::UnitWithoutParameters => "unit_without_parameters",
            Self::BadParameterSets => "bad_parameter_sets",
            Self::UnitTooLarge => "unit_too_large",
            Self::AnnexBInPayload => "annex_b_in_payload",
            Self::FragmentTypeChanged => "fragment_type_changed",
            Self::FragmentReservedBit => "fragment_reserved_bit",
            Self::EmptyFragment => "empty_fragment",
            Self::FragmentEndMissing => "fragment_end_missing",
            Self::FragmentStartMissing => "fragment_start_missing",
            Self::MarkerWithoutPicture => "marker_without_picture",
            Self::MarkerInsidePicture => "marker_inside_picture",
            Self::AggregateCut => "aggregate_cut",
            Self::InterleavingRefused => "interleaving_refused",
            Self::PayloadInvalid => "payload_invalid",
        }
    }
}

/// How often each [`Quirk`] was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuirkCounters([u64; COUNT]);

impl QuirkCounters {
    /// How often `quirk` was seen.
    pub fn get(&self, quirk: Quirk) -> u64 {
        self.0.get(quirk as usize).copied().unwrap_or(0)
    }

    /// The quirks seen at least once, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Quirk, u64)> {
        Quirk::ALL.into_iter().map(|quirk| (quirk, self.get(quirk))).filter(|(_, count)| *count > 0)
    }

    /// What was counted since `earlier`, a copy taken before.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        difference.0.iter_mut().zip(earlier.0).for_each(|(count, before)| *count = count.saturating_sub(before));
        difference
    }

    pub(crate) fn add(&mut self, quirk: Quirk, count: u64) {
        if let Some(counter) = self.0.get_mut(quirk as usize) {
            *counter += count;
        }
    }

    pub(crate) fn count(&mut self, quirk: Quirk) {
        self.add(quirk, 1);
    }
}
