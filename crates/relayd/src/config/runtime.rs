//! `[runtime]`: how the work is spread over the processor's cores.

use schemars::JsonSchema;
use toml::de::DeValue;

use super::reader::{FromValue, Table, Wrong, one_of};

/// `[runtime]`: how the work is spread over the processor's cores.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Runtime {
    /// `"shared"`: idle threads take work from busy ones. `"per-core"`: each stream stays on one thread.
    #[schemars(default)]
    pub(crate) scheduler: Scheduler,
    /// How many threads carry streams; the default is one per core.
    #[schemars(range(min = 1, max = 256))]
    pub(crate) threads: Option<u16>,
}

/// How streams share threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub(crate) enum Scheduler {
    /// One work-stealing runtime.
    #[default]
    Shared,
    /// One single-threaded runtime per core, each stream pinned to one.
    PerCore,
}

/// More threads than this are a slip of the pen.
const THREADS_MAX: u16 = 256;

impl Runtime {
    pub(super) fn read(mut table: Table<'_, '_>) -> Self {
        let scheduler = table.get_or("scheduler", Scheduler::default());
        let threads = table.get::<u16>("threads");
        if let Some(found) = threads.as_ref().filter(|found| found.value == 0 || found.value > THREADS_MAX) {
            table.wrong("threads", &found.span, &format!("is out of range: write 1 to {THREADS_MAX}"));
        }
        table.close();
        Self { scheduler, threads: threads.map(|found| found.value) }
    }
}

impl Scheduler {
    /// As the file spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::PerCore => "per-core",
        }
    }
}

impl FromValue for Scheduler {
    fn from_value(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_of(value, &[("shared", Self::Shared), ("per-core", Self::PerCore)])
    }
}
