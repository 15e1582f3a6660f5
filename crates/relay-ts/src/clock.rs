//! The programme's 33-bit clock, unwrapped.

/// The times of a unit in ticks of 90 kHz, unwrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) pts: i64,
    pub(crate) dts: i64,
}

/// Time stamps have 33 bits (§2.4.3.7): they wrap every 26.5 hours.
const BITS: u32 = 33;

/// Unwraps the times of all streams of a programme together, so that they stay comparable.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    reference: Option<i64>,
    pcr: Option<i64>,
}

impl Clock {
    /// The times of a PES header.
    pub(crate) fn stamp(&mut self, pts: u64, dts: Option<u64>) -> Stamp {
        let dts_ticks = self.unwrap(dts.unwrap_or(pts));
        self.reference = Some(dts_ticks);
        Stamp { pts: if dts.is_some() { self.unwrap(pts) } else { dts_ticks }, dts: dts_ticks }
    }

    /// A programme clock reference in ticks of 27 MHz.
    pub(crate) fn set_pcr(&mut self, pcr: u64) {
        // It doesn't move the reference: there are encoders whose PCR stands still.
        let base = self.unwrap(pcr / 300);
        self.pcr = Some(base.saturating_mul(300).saturating_add((pcr % 300).cast_signed()));
    }

    pub(crate) fn pcr(&self) -> Option<i64> {
        self.pcr
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The time with these low bits that is nearest to the newest one.
    fn unwrap(&self, low: u64) -> i64 {
        let low = low.cast_signed();
        let Some(reference) = self.reference else { return low };
        let shift = i64::BITS - BITS;
        let step = low.wrapping_sub(reference) << shift >> shift;
        reference.saturating_add(step)
    }
}
