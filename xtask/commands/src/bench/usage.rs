//! What a process has used, as the kernel counts it.

use std::fs;

use anyhow::{Context as _, Result};

/// `USER_HZ`: the kernel's unit of time in /proc, the same on every architecture that Rust runs on with Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory and time of one process, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// The most memory that was resident at any time.
    pub(super) peak_rss_mb: f64,
    pub(super) cpu_seconds: f64,
}

impl Usage {
    /// Of a process that has not been waited for yet.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{pid}/{file}");
            fs::read_to_string(&path).with_context(|| format!("reading {path}"))
        };
        let peak = peak_bytes(&read("status")?).context("the kernel tells no VmHWM of the operator")?;
        let ticks = ticks(&read("stat")?).context("the kernel tells no times of the operator")?;
        Ok(Self {
            peak_rss_mb: megabytes(peak),
            cpu_seconds: number(ticks) / TICKS_PER_SECOND,
        })
    }

    /// Of this process and another one that ran before or after it.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            peak_rss_mb: self.peak_rss_mb.max(other.peak_rss_mb),
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
        }
    }
}

/// Millions of bytes.
pub(super) fn megabytes(bytes: u64) -> f64 {
    number(bytes / 1_000) / 1_000.0
}

/// Counts here are far below what would not fit.
pub(super) fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// utime and stime. The program's name before them, in parentheses, may hold blanks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        assert_eq!(
            peak_bytes("Name:\tx\nVmHWM:\t   20000 kB\nVmRSS:\t 1 kB\n"),
            Some(20_480_000)
        );
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 100 0 0 0 120 30 0 0 20 0 4 0 100 1000 10";
        assert_eq!(ticks(stat), Some(150));
    }

    #[test]
    fn our_own_usage_can_be_read() {
        assert!(Usage::of(std::process::id()).unwrap().peak_rss_mb > 0.1);
    }

    #[test]
    fn of_several_processes_the_peak_is_the_highest_and_the_time_is_the_sum() {
        let usage = |peak_rss_mb, cpu_seconds| Usage {
            peak_rss_mb,
            cpu_seconds,
        };
        assert_eq!(usage(3.0, 1.0).and(usage(2.0, 4.0)), usage(3.0, 5.0));
    }
}
