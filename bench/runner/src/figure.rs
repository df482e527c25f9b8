//! What is taken from a run, and how it is shown.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// The numbers of a run, by the names that `klamm-bench` gives them.
pub(crate) type Measured = BTreeMap<String, f64>;

/// A number that two systems are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    StartSeconds,
    CpuPercent,
    CpuPerGb,
    CpuPerMillion,
    MbPerSecond,
    RecordsPerSecond,
    P99Ms,
    P999Ms,
    RssMib,
    RssAfterMib,
    FormSeconds,
    FormCpu,
    RebalanceSeconds,
    RebalanceCpu,
    CpuPerMinute,
    FailoverSeconds,
}

impl Figure {
    /// # Errors
    /// When the run did not measure what the figure is made of.
    pub(crate) fn value(self, measured: &Measured) -> Result<f64> {
        let get = |name: &str| {
            let value = measured.get(name).copied();
            value.with_context(|| format!("the run did not measure {name}"))
        };
        let bytes = || get("payload_bytes").or_else(|_| get("bytes"));
        Ok(match self {
            Self::StartSeconds => get("start_seconds")?,
            Self::CpuPercent => get("broker_cpu_seconds")? / get("seconds")? * 100.0,
            Self::CpuPerGb => get("broker_cpu_seconds")? / (bytes()? / 1e9),
            Self::CpuPerMillion => get("broker_cpu_seconds")? / (get("records")? / 1e6),
            Self::MbPerSecond => bytes()? / 1e6 / get("seconds")?,
            Self::RecordsPerSecond => get("records")? / get("seconds")?,
            Self::P99Ms => get("p99_ms")?,
            Self::P999Ms => get("p999_ms")?,
            Self::RssMib => get("rss_peak_bytes")? / f64::from(1 << 20),
            Self::RssAfterMib => get("rss_bytes")? / f64::from(1 << 20),
            Self::FormSeconds => get("form_seconds")?,
            Self::FormCpu => get("form_cpu_seconds")?,
            Self::RebalanceSeconds => get("rebalance_seconds")?,
            Self::RebalanceCpu => get("rebalance_cpu_seconds")?,
            Self::CpuPerMinute => get("broker_cpu_seconds")? / get("seconds")? * 60.0,
            Self::FailoverSeconds => get("failover_seconds")?,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::StartSeconds => "start, s",
            Self::CpuPercent => "broker CPU, % of a core",
            Self::CpuPerGb => "broker CPU s/GB",
            Self::CpuPerMillion => "broker CPU s/million records",
            Self::MbPerSecond => "MB/s",
            Self::RecordsPerSecond => "records/s",
            Self::P99Ms => "p99, ms",
            Self::P999Ms => "p99.9, ms",
            Self::RssMib => "RSS of all brokers, MiB",
            Self::RssAfterMib => "RSS of all brokers afterwards, MiB",
            Self::FormSeconds => "until all members are stable, s",
            Self::FormCpu => "until all members are stable, broker CPU s",
            Self::RebalanceSeconds => "one member more, s",
            Self::RebalanceCpu => "one member more, broker CPU s",
            Self::CpuPerMinute => "broker CPU s/minute",
            Self::FailoverSeconds => "fail-over, s",
        }
    }

    pub(crate) const fn more_is_better(self) -> bool {
        matches!(self, Self::MbPerSecond | Self::RecordsPerSecond)
    }

    /// Whether the ratio to Kafka's is what is wanted.
    pub(crate) fn meets(self, ratio: f64, target: f64) -> bool {
        if self.more_is_better() {
            ratio >= target
        } else {
            ratio <= target
        }
    }

    pub(crate) fn show(self, value: f64) -> String {
        format!("{} {}", number(value), self.name())
    }
}

/// Three digits, whatever the size.
pub(crate) fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
