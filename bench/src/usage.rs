//! What processes used, from the kernel's accounting.

use std::fs;

use anyhow::{Context as _, Result};
use rustix::param::clock_ticks_per_second;
use serde::Serialize;

/// Of all processes together.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Usage {
    /// User and system time of all threads, also of those that ended.
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_bytes: u64,
    /// The most that was resident since each process began.
    pub(crate) rss_peak_bytes: u64,
}

impl Usage {
    pub(crate) fn of(pids: &[u32]) -> Result<Self> {
        let mut usage = Self::default();
        for pid in pids {
            usage.cpu_seconds += cpu_seconds(*pid)?;
            let status = read(*pid, "status")?;
            usage.rss_bytes += memory_bytes(&status, "VmRSS:")?;
            usage.rss_peak_bytes += memory_bytes(&status, "VmHWM:")?;
        }
        Ok(usage)
    }
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .with_context(|| format!("process {pid} is gone"))
}

fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = read(pid, "stat")?;
    // The name before it is in parentheses and may contain anything; utime and stime are the 12th
    // and 13th field after it.
    let (_, rest) = stat.rsplit_once(") ").context("no name in stat")?;
    let times = rest.split(' ').skip(11).take(2);
    let ticks: u64 = times.map(str::parse::<u64>).sum::<Result<_, _>>()?;
    Ok(ticks as f64 / clock_ticks_per_second() as f64)
}

fn memory_bytes(status: &str, field: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = value.and_then(|value| value.split_whitespace().next());
    Ok(kibibytes.context("no memory in status")?.parse::<u64>()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_time_and_memory() {
        let mut spun = 0_u64;
        while Usage::of(&[std::process::id()]).unwrap().cpu_seconds == 0.0 {
            spun = std::hint::black_box(spun + 1);
        }
        let usage = Usage::of(&[std::process::id()]).unwrap();
        assert!(0 < usage.rss_bytes && usage.rss_bytes <= usage.rss_peak_bytes);
    }
}
