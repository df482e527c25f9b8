//! Prometheus metrics, read from where the numbers are kept when they are asked for.
//!
//! `docs/monitoring.md` lists them all; the tests hold the two together.

mod cluster;
mod disks;
mod process;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::coordinator::Rebalances;
use crate::health::Health;
use crate::net::NetMetrics;
use crate::partition::{CleanerStatus, PartitionManager};
use crate::transaction::TransactionCounts;

pub use cluster::ClusterMetrics;
use process::ProcessMetrics;
pub use tls::TlsMetrics;

/// In front of every name but those of the process.
const PREFIX: &str = "klamm";

/// All metrics of the process. Sources are added as the broker starts.
pub struct Metrics {
    registry: RwLock<Registry>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        Self {
            registry: RwLock::new(registry),
        }
    }
}

impl Metrics {
    /// Adds a source.
    pub fn add(&self, collector: impl Collector) {
        self.registry
            .write()
            .sub_registry_with_prefix(PREFIX)
            .register_collector(Box::new(collector));
    }

    /// The exposition text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = text::encode(&mut text, &self.registry.read()) {
            tracing::error!(%error, "metrics not rendered");
        }
        text
    }
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: i64,
) -> Result<(), fmt::Error> {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Stage and recovery of the process.
pub struct HealthMetrics(pub Health);

impl fmt::Debug for HealthMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthMetrics")
    }
}

impl Collector for HealthMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let report = self.0.report();
        gauge(
            &mut encoder,
            "serving",
            "1 while clients are served",
            i64::from(self.0.is_serving()),
        )?;
        counter(
            &mut encoder,
            "recovered_bytes",
            "Bytes of log that were verified at the start",
            report.recovered_bytes,
        )
    }
}

/// Replicas on this broker.
pub struct PartitionMetrics(pub Arc<PartitionManager>);

impl fmt::Debug for PartitionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartitionMetrics")
    }
}

impl Collector for PartitionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.counts();
        let e = &mut encoder;
        for (name, help, number) in [
            (
                "offline_log_dirs",
                "Log directories that failed; repair or replace the disk and restart the broker",
                counts.failed_dirs,
            ),
            (
                "slow_log_dirs",
                "Log directories whose replicas gave up leadership because the disk is slow",
                counts.slow_dirs,
            ),
            (
                "offline_replicas",
                "Replicas assigned here that can't be served because their log or disk failed",
                counts.offline,
            ),
            (
                "damaged_replicas",
                "Replicas here whose log is damaged or gone; one that stays is the only copy: see the log of the broker",
                counts.damaged,
            ),
            (
                "rebuilding_replicas",
                "Replicas here that copy their log anew after damage and are not in sync yet",
                counts.rebuilding,
            ),
            (
                "quarantined_logs",
                "Damaged logs that were set aside, until the replica is in sync again",
                counts.quarantined,
            ),
        ] {
            gauge(e, name, help, count(number))?;
        }
        gauge(
            e,
            "replicas",
            "Replicas hosted here",
            count(counts.replicas),
        )?;
        gauge(e, "leaders", "Partitions led here", count(counts.leaders))?;
        gauge(
            e,
            "disk_full_replicas",
            "Replicas whose last write found the disk full",
            count(counts.disk_full),
        )?;
        gauge(
            e,
            "log_bytes",
            "Size of all logs here",
            i64::try_from(counts.bytes).unwrap_or(i64::MAX),
        )?;
        for (name, help, number) in [
            (
                "scrub_passes",
                "Times that all sealed segments here were read and verified",
                counts.scrub_passes,
            ),
            (
                "scrubbed_bytes",
                "Bytes of sealed segments that were read and verified",
                counts.scrubbed_bytes,
            ),
            (
                "scrub_damaged_segments",
                "Segments whose records were found to be damaged when they were read again",
                counts.scrub_damaged_segments,
            ),
            (
                "scrub_indexes_rebuilt",
                "Segments whose indexes were found to be damaged and were made anew",
                counts.scrub_indexes_rebuilt,
            ),
        ] {
            counter(e, name, help, number)?;
        }
        counter(
            e,
            "records_given_up",
            "Committed records that replicas here lost to unclean leader elections",
            counts.records_given_up,
        )?;
        gauge(
            e,
            "adding_replicas",
            "Replicas here that a reassignment adds and that are not in sync yet",
            count(counts.adding),
        )?;
        gauge(
            e,
            "adding_replicas_lag_offsets",
            "Offsets that the replicas being added here still have to copy",
            i64::try_from(counts.offsets_to_copy).unwrap_or(i64::MAX),
        )?;
        gauge(
            e,
            "replica_lag_max_offsets",
            "Most committed offsets that a follower here lacks, as far as its leader has told",
            i64::try_from(counts.lag_offsets_max).unwrap_or(i64::MAX),
        )?;
        gauge(
            e,
            "moving_replicas",
            "Replicas here that are being moved to another log directory",
            count(counts.moving),
        )?;
        disks::encode(e, self.0.dirs())?;
        encode_cleaner(e, self.0.cleaner_status())
    }
}

fn encode_cleaner(e: &mut DescriptorEncoder<'_>, status: &CleanerStatus) -> Result<(), fmt::Error> {
    let dirty_ppm = status.dirty_ppm_max.load(Ordering::Relaxed);
    for (name, help, value) in [
        (
            "log_cleaner_alive",
            "0 when the thread ended that compacts logs: restart the broker",
            i64::from(status.is_alive()),
        ),
        (
            "log_cleaner_uncleanable_logs",
            "Logs that could not be compacted, as the broker's log says why, and are left alone for an hour",
            count(status.uncleanable.load(Ordering::Relaxed)),
        ),
        (
            "log_cleaner_max_dirty_percent",
            "Largest share of a compacted log that was not compacted yet",
            i64::try_from(dirty_ppm / 10_000).unwrap_or(100),
        ),
    ] {
        gauge(e, name, help, value)?;
    }
    for (name, help, value) in [
        (
            "log_cleaner_passes",
            "Passes over compacted logs",
            &status.passes,
        ),
        (
            "log_cleaner_read_bytes",
            "Bytes of the segments that compaction wrote anew",
            &status.bytes_read,
        ),
        (
            "log_cleaner_removed_bytes",
            "Bytes by which compaction made logs smaller",
            &status.bytes_removed,
        ),
    ] {
        counter(e, name, help, value.load(Ordering::Relaxed))?;
    }
    Ok(())
}

/// Groups coordinated here.
#[derive(Debug)]
pub struct GroupMetrics(pub Arc<Rebalances>);

impl Collector for GroupMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Rebalances of groups that this broker started as their coordinator, by reason";
        let mut metric =
            encoder.encode_descriptor("group_rebalances", help, None, MetricType::Counter)?;
        for (reason, count) in self.0.counts() {
            let labels = [("reason", reason)];
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Transactions coordinated here.
#[derive(Debug)]
pub struct TransactionMetrics(pub Arc<TransactionCounts>);

impl Collector for TransactionMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "What happened to transactions that this broker coordinates: started, committed, \
                    aborted, among them timed_out; and requests of producers that were fenced";
        let mut metric =
            encoder.encode_descriptor("transactions", help, None, MetricType::Counter)?;
        for (event, count) in self.0.all() {
            let labels = [("event", event)];
            ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Client connections and requests.
#[derive(Debug)]
pub struct ClientMetrics(pub Arc<NetMetrics>);

impl Collector for ClientMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let net = &self.0;
        let e = &mut encoder;
        let open = i64::try_from(net.connections()).unwrap_or(i64::MAX);
        gauge(e, "client_connections", "Open client connections", open)?;
        counter(
            e,
            "client_requests",
            "Requests of clients",
            net.requests.get(),
        )?;
        counter(
            e,
            "client_received_bytes",
            "Bytes from clients",
            net.bytes_received.get(),
        )?;
        counter(
            e,
            "client_sent_bytes",
            "Bytes to clients",
            net.bytes_sent.get(),
        )?;
        for (name, help, value) in [
            (
                "client_requests_throttled",
                "Requests after which a client had to wait because of its quota",
                &net.throttled_requests,
            ),
            (
                "client_connections_refused",
                "Closed because of max.connections",
                &net.connections_refused,
            ),
            (
                "client_connections_throttled",
                "Closed because of connection_creation_rate",
                &net.connections_throttled,
            ),
            (
                "client_requests_malformed",
                "Connections closed because of a malformed request",
                &net.malformed_requests,
            ),
            (
                "client_requests_unsupported",
                "Connections closed because of an unsupported request",
                &net.unsupported_requests,
            ),
            (
                "client_connections_timed_out",
                "Connections closed because they were idle or stalled",
                &net.timed_out,
            ),
            (
                "client_tls_handshakes",
                "TLS handshakes of clients that succeeded",
                &net.tls_handshakes,
            ),
            (
                "client_tls_handshakes_failed",
                "Connections closed because their TLS handshake failed or took too long",
                &net.tls_handshakes_failed,
            ),
            (
                "client_connections_wrong_protocol",
                "Connections closed because the client spoke TLS to a plaintext listener or the other way round",
                &net.wrong_protocol,
            ),
            (
                "client_connections_broken",
                "Connections that broke",
                &net.io_errors,
            ),
        ] {
            counter(e, name, help, value.get())?;
        }
        Ok(())
    }
}
