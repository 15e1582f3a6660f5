//! What was tolerated, refused or dropped, by name.

/// Something a peer did that the specifications don't allow or that cost a unit. Each has a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Quirk {
    /// A packet did not begin with the sync byte where the one before it ended.
    SyncLost,
    /// Bytes passed over in search of packets.
    BytesSkipped,
    /// A packet whose header or adaptation field makes no sense.
    PacketInvalid,
    /// A packet that came twice (§2.4.3.3 allows it).
    PacketRepeated,
    /// A packet that the receiver before us marked as damaged (`transport_error_indicator`).
    TransportError,
    /// A scrambled packet, or the first of a scrambled PES packet; refused.
    Scrambled,
    /// Packets of a stream are missing before this one.
    ContinuityGap,
    /// The stream announced a discontinuity (`discontinuity_indicator`).
    DiscontinuityIndicated,
    /// A table's section that is too long, cut, or of the wrong kind.
    SectionInvalid,
    /// A table's section whose CRC is wrong.
    SectionCrc,
    /// Another programme in the same stream: only the first one is followed.
    ProgrammeIgnored,
    /// An elementary stream beyond the most that are followed, or with an identifier that is taken.
    StreamIgnored,
    /// A PES packet whose header makes no sense.
    PesInvalid,
    /// A PES packet that ended before the length it told; what was in progress is dropped.
    PesCut,
    /// Payload behind the length that a PES packet told: taken for pictures, dropped for sound.
    PesLengthWrong,
    /// A unit of a stream that should tell its time and didn't; it was counted on from the one before, or dropped.
    TimestampMissing,
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
    /// Bytes that are no ADTS header where one belongs.
    AdtsSyncLost,
    /// ADTS frames of kinds that are not carried: several blocks in a frame, channels told in-band, a reserved rate.
    AdtsRefused,
    /// An Opus access unit whose control header or packet makes no sense.
    OpusInvalid,
}

const COUNT: usize = Quirk::OpusInvalid as usize + 1;

impl Quirk {
    /// Every quirk.
    pub const ALL: [Self; COUNT] = [
        Self::SyncLost,
        Self::BytesSkipped,
        Self::PacketInvalid,
        Self::PacketRepeated,
        Self::TransportError,
        Self::Scrambled,
        Self::ContinuityGap,
        Self::DiscontinuityIndicated,
        Self::SectionInvalid,
        Self::SectionCrc,
        Self::ProgrammeIgnored,
        Self::StreamIgnored,
        Self::PesInvalid,
        Self::PesCut,
        Self::PesLengthWrong,
        Self::TimestampMissing,
        Self::UnitDamaged,
        Self::UnitBeforeKey,
        Self::LeadingSkipped,
        Self::UnitWithoutParameters,
        Self::BadParameterSets,
        Self::UnitTooLarge,
        Self::AdtsSyncLost,
        Self::AdtsRefused,
        Self::OpusInvalid,
    ];

    /// Its name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::SyncLost => "sync_lost",
            Self::BytesSkipped => "bytes_skipped",
            Self::PacketInvalid => "packet_invalid",
            Self::PacketRepeated => "packet_repeated",
            Self::TransportError => "transport_error",
            Self::Scrambled => "scrambled",
            Self::ContinuityGap => "continuity_gap",
            Self::DiscontinuityIndicated => "discontinuity_indicated",
            Self::SectionInvalid => "section_invalid",
            Self::SectionCrc => "section_crc",
            Self::ProgrammeIgnored => "programme_ignored",
            Self::StreamIgnored => "stream_ignored",
            Self::PesInvalid => "pes_invalid",
            Self::PesCut => "pes_cut",
            Self::PesLengthWrong => "pes_length_wrong",
            Self::TimestampMissing => "timestamp_missing",
            Self::UnitDamaged => "unit_damaged",
            Self::UnitBeforeKey => "unit_before_key",
            Self::LeadingSkipped => "leading_skipped",
            Self::UnitWithoutParameters => "unit_without_parameters",
            Self::BadParameterSets => "bad_parameter_sets",
            Self::UnitTooLarge => "unit_too_large",
            Self::AdtsSyncLost => "adts_sync_lost",
            Self::AdtsRefused => "adts_refused",
            Self::OpusInvalid => "opus_invalid",
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
