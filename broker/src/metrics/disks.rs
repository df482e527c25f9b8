//! Space on the disks under the log directories. Directories that share a disk tell the same.

use std::fmt;
use std::path::Path;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::log_dirs::LogDirs;

/// Space of a file system.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) free_bytes: i64,
    pub(super) capacity_bytes: i64,
}

/// Directories that failed are left out.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    dirs: &LogDirs,
) -> Result<(), fmt::Error> {
    let usable = dirs.conditions().iter().filter(|c| !c.is_failed());
    let spaces: Vec<(String, Space)> = usable
        .filter_map(|c| Some((c.path().display().to_string(), space(c.path())?)))
        .collect();
    let free = spaces.iter().map(|(dir, space)| (dir, space.free_bytes));
    let help = "Space that is left on the disk of a log directory";
    by_dir(encoder, "log_dir_free_bytes", help, free)?;
    let capacity = spaces
        .iter()
        .map(|(dir, space)| (dir, space.capacity_bytes));
    let help = "Size of the disk of a log directory";
    by_dir(encoder, "log_dir_capacity_bytes", help, capacity)
}

fn by_dir<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (&'a String, i64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (dir, value) in values {
        let labels = [("dir", dir.as_str())];
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

/// What a process without privileges can use; nothing when the system does not tell.
pub(super) fn space(path: &Path) -> Option<Space> {
    let told = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(told.f_frsize)).ok();
    Some(Space {
        free_bytes: bytes(told.f_bavail)?,
        capacity_bytes: bytes(told.f_blocks)?,
    })
}
