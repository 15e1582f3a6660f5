//! What the process itself takes, from `/proc/self` (proc(5)); nothing where there is none.

use std::{fs, time::Duration};

/// The figures at one moment; `None` where the system does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Process {
    /// Processor time, user and system.
    pub(crate) cpu: Option<Duration>,
    /// When it started, since the Unix epoch.
    pub(crate) started: Option<Duration>,
    /// Memory in RAM, in bytes.
    pub(crate) resident_bytes: Option<u64>,
    /// Address space, in bytes.
    pub(crate) virtual_bytes: Option<u64>,
    /// Open descriptors.
    pub(crate) open_fds: Option<usize>,
    /// Descriptors that it may open.
    pub(crate) max_fds: Option<u64>,
    /// Threads.
    pub(crate) threads: Option<u64>,
}

impl Process {
    /// Reads them now.
    pub(crate) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").map(Iterator::count).ok();
        Self { open_fds, max_fds: max_fds(&limits), ..Self::parse(&stat, &boot) }
    }

    fn parse(stat: &str, boot: &str) -> Self {
        // The name, field 2, stands in parentheses and may hold anything: fields are counted behind it, from 3.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
        let ticks = |ticks: u64| Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1));
        let booted = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        Self {
            cpu: field(14).zip(field(15)).map(|(user, system)| ticks(user + system)),
            threads: field(20),
            started: field(22).zip(booted).map(|(start, boot)| Duration::from_secs(boot) + ticks(start)),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * rustix::param::page_size() as u64),
            ..Self::default()
        }
    }
}

fn max_fds(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fields_behind_any_name() {
        let stat =
            "7 (re) lay d) S 1 7 7 0 -1 4194560 5 0 0 0 250 50 0 0 20 0 3 0 1000 9000000 512 18446744073709551615";
        let process = Process::parse(stat, "cpu 1 2\nbtime 1700000000\n");
        assert_eq!(process.cpu, Some(Duration::from_secs(3)));
        assert_eq!(process.started, Some(Duration::from_secs(1_700_000_010)));
        assert_eq!((process.threads, process.virtual_bytes), (Some(3), Some(9_000_000)));
        assert_eq!(process.resident_bytes, Some(512 * rustix::param::page_size() as u64));
        assert_eq!(max_fds("Max open files            1024                 4096                 files\n"), Some(1_024));
        assert_eq!(Process::parse("", "").cpu, None);
    }
}
