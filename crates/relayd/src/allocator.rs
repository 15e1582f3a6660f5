//! The global allocator, one of three at build time, and its figures.
//!
//! A server that runs for months fragments the system's allocator: mimalloc or jemalloc, by Cargo feature.

/// One figure, ready for `/metrics`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// The metric's name.
    pub(crate) name: &'static str,
    /// `"gauge"` or `"counter"`.
    pub(crate) kind: &'static str,
    /// What it tells.
    pub(crate) help: &'static str,
    /// Bytes, or a count.
    pub(crate) value: u64,
}

pub(crate) use imp::{NAME, figures};

#[cfg(feature = "jemalloc")]
mod imp {
    use tikv_jemalloc_ctl::{epoch, stats};

    use super::Figure;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// The allocator in use.
    pub(crate) const NAME: &str = "jemalloc";

    /// Its figures now; none if it was built without them.
    pub(crate) fn figures() -> Vec<Figure> {
        // Figures are those of the last epoch.
        if epoch::advance().is_err() {
            return Vec::new();
        }
        let figure = |name, help, value: tikv_jemalloc_ctl::Result<usize>| {
            value.ok().map(|value| Figure { name, kind: "gauge", help, value: value as u64 })
        };
        let figures = [
            figure("relayd_allocator_allocated_bytes", "Bytes in use by the program.", stats::allocated::read()),
            figure("relayd_allocator_active_bytes", "Bytes in pages that hold some.", stats::active::read()),
            figure("relayd_allocator_resident_bytes", "Bytes in RAM.", stats::resident::read()),
            figure("relayd_allocator_mapped_bytes", "Bytes taken from the system.", stats::mapped::read()),
            figure("relayd_allocator_retained_bytes", "Address space kept for later.", stats::retained::read()),
            figure("relayd_allocator_metadata_bytes", "Bytes it uses itself.", stats::metadata::read()),
        ];
        figures.into_iter().flatten().collect()
    }
}

#[cfg(all(feature = "mimalloc", not(feature = "jemalloc")))]
mod imp {
    use mimalloc::MiMalloc;
    use serde_json::Value;

    use super::Figure;

    #[global_allocator]
    static ALLOCATOR: MiMalloc = MiMalloc;

    /// The allocator in use.
    pub(crate) const NAME: &str = "mimalloc";

    /// Its figures now; none if it does not tell.
    pub(crate) fn figures() -> Vec<Figure> {
        let json = MiMalloc::stats_json().ok().and_then(|json| serde_json::from_slice(json.to_bytes()).ok());
        json.map(|json| read(&json)).unwrap_or_default()
    }

    fn read(json: &Value) -> Vec<Figure> {
        let figure = |name, help, path: &str| {
            let value = json.pointer(path).and_then(Value::as_i64)?;
            Some(Figure { name, kind: "gauge", help, value: u64::try_from(value).unwrap_or(0) })
        };
        let figures = [
            figure("relayd_allocator_committed_bytes", "Bytes backed by memory.", "/committed/current"),
            figure("relayd_allocator_committed_peak_bytes", "The most it was.", "/committed/peak"),
            figure("relayd_allocator_reserved_bytes", "Address space taken.", "/reserved/current"),
            figure("relayd_allocator_pages", "Pages that hold blocks.", "/pages/current"),
            figure("relayd_allocator_abandoned_pages", "Pages of threads that ended.", "/pages_abandoned/current"),
        ];
        figures.into_iter().flatten().collect()
    }
}

#[cfg(not(any(feature = "mimalloc", feature = "jemalloc")))]
mod imp {
    use super::Figure;

    /// The allocator in use.
    pub(crate) const NAME: &str = "system";

    /// The system's allocator tells nothing.
    pub(crate) fn figures() -> Vec<Figure> {
        Vec::new()
    }
}

#[cfg(all(test, any(feature = "mimalloc", feature = "jemalloc")))]
mod tests {
    #[test]
    fn figures_move_with_what_is_allocated() {
        let of = |name: &str| super::figures().iter().find(|figure| figure.name == name).map(|figure| figure.value);
        let name = if super::NAME == "jemalloc" {
            "relayd_allocator_allocated_bytes"
        } else {
            "relayd_allocator_committed_bytes"
        };
        let before = of(name).expect("a figure");
        let block = vec![1_u8; 64 << 20];
        assert!(of(name).expect("a figure") >= before + (32 << 20), "{name} after 64 MiB more");
        assert_eq!(block.last(), Some(&1));
    }
}
