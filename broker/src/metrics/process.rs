//! What the process takes of the machine, under the names that Prometheus clients share. What the
//! system does not tell is left out.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::{count, gauge};

/// Ticks per second of times in `/proc`, the same on every Linux that user space sees.
const USER_HZ: f64 = 100.0;

/// Processor time, memory and files of this process.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let e = &mut encoder;
        let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).ok();
        if let Some(seconds) = read("stat").and_then(|stat| cpu_seconds(&stat)) {
            let help = "Processor time, user and system";
            let metric = ConstCounter::new(seconds);
            let kind = metric.metric_type();
            metric.encode(e.encode_descriptor("process_cpu_seconds", help, None, kind)?)?;
        }
        if let Some(bytes) = read("status").and_then(|status| resident_bytes(&status)) {
            let help = "Memory in use, mapped files among it";
            gauge(e, "process_resident_memory_bytes", help, bytes)?;
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            gauge(e, "process_open_fds", "Open files", count(entries.count()))?;
        }
        Ok(())
    }
}

/// `utime` and `stime` of proc_pid_stat(5).
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name before it may hold anything, parentheses included.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<u32>().ok();
    Some(f64::from(ticks()?) / USER_HZ + f64::from(ticks()?) / USER_HZ)
}

/// `VmRSS` of proc_pid_status(5).
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_whatever_the_name_of_the_process() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 900 0 0 0 250 50 0 0 20 0 9 0 100 1000 10\n";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("7 (x) S 1"), None);
        let status = "VmPeak:\t  9000 kB\nVmRSS:\t    12 kB\nRssAnon:\t 4 kB\n";
        assert_eq!(resident_bytes(status), Some(12_288));
        assert_eq!(resident_bytes("VmPeak:\t 9000 kB\n"), None);
    }
}
