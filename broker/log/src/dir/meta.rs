//! `meta.properties`: whose data a directory holds.

use std::io;
use std::path::Path;

use crate::checkpoint::{invalid, read_text, replace};
use crate::fs::Fs;

const META_PROPERTIES: &str = "meta.properties";
const META_LEN_MAX: u64 = 4096;

/// Whose data a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    /// Id of the directory itself (KIP-858): another one means another, perhaps empty, disk.
    pub directory_id: String,
}

impl MetaProperties {
    /// Reads the file of a data directory, without locking that; `None` in a new one.
    pub fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(META_PROPERTIES);
        let Some(text) = read_text(fs, &path, META_LEN_MAX)? else {
            return Ok(None);
        };
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.find_map(|(k, v)| (k == key).then_some(v))
        };
        let meta = || {
            Some(Self {
                cluster_id: value("cluster.id")?.to_owned(),
                node_id: value("node.id")?.parse().ok()?,
                directory_id: value("directory.id")?.to_owned(),
            })
        };
        meta()
            .map(Some)
            .ok_or_else(|| invalid(&path, "is malformed"))
    }

    /// Writes the file, durably.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let Self {
            cluster_id,
            node_id,
            directory_id,
        } = self;
        let text = format!(
            "version=1\ncluster.id={cluster_id}\nnode.id={node_id}\ndirectory.id={directory_id}\n"
        );
        replace(fs, &dir.join(META_PROPERTIES), text.as_bytes())
    }
}
