//! What processes cost, as the kernel counts it: proc(5).

use std::time::Duration;

use anyhow::Context;

/// User and system time that the processes have used so far, all their threads, those that ended too.
///
/// # Errors
/// When one is gone.
pub(super) fn cpu(pids: impl IntoIterator<Item = u32>) -> anyhow::Result<Duration> {
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    let mut ticks = 0;
    for pid in pids {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
        ticks += ticks_of(&stat).with_context(|| format!("/proc/{pid}/stat reads {stat:?}"))?;
    }
    Ok(Duration::from_nanos(ticks * (1_000_000_000 / ticks_a_second)))
}

/// Peak resident memory of the processes, summed, in bytes. Pages that they share count in each.
///
/// # Errors
/// When one is gone.
pub(super) fn peak_memory(pids: impl IntoIterator<Item = u32>) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for pid in pids {
        let status =
            std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
        bytes += memory_of(&status, "VmHWM:").with_context(|| format!("/proc/{pid}/status has no VmHWM"))?;
    }
    Ok(bytes)
}

/// Resident memory of a process now, in bytes.
///
/// # Errors
/// When it is gone.
pub(super) fn resident_memory(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    memory_of(&status, "VmRSS:").with_context(|| format!("/proc/{pid}/status has no VmRSS"))
}

/// `utime` + `stime`, fields 14 and 15. The name in field 2 may hold anything, so count from its last bracket.
fn ticks_of(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(14 - 3);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn memory_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_last_bracket() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 1 0 8 9 10";
        assert_eq!(ticks_of(stat), Some(168));
        assert_eq!(ticks_of("7 (cut"), None);
    }

    #[test]
    fn own_figures_can_be_read() {
        let me = std::process::id();
        assert!(cpu([me]).is_ok());
        assert!(peak_memory([me]).is_ok_and(|bytes| bytes > 100_000));
        assert!(resident_memory(me).is_ok_and(|bytes| bytes > 100_000));
    }
}
