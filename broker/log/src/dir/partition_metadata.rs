//! `partition.metadata`: which topic's log a directory holds, and which log of a replica it is.
//!
//! A replica's log gets an id when it is made. A log that shall replace another one of the replica, in
//! another log directory, names that one's id, so that a start that finds both knows which one stays.
//! Kafka has the first two lines only.

use std::io;
use std::path::Path;

use broker_core::TopicId;

use crate::checkpoint::{read_text, replace};
use crate::fs::Fs;

const FILE_NAME: &str = "partition.metadata";
/// Largest file that is read.
const LEN_MAX: u64 = 4096;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMetadata {
    pub topic_id: TopicId,
    /// Tells this log from every other one of the replica; `None` in one made by Kafka.
    pub log_id: Option<String>,
    /// `log_id` of the log of which this one takes the place, once both have the name of the replica.
    pub replaces: Option<String>,
}

impl PartitionMetadata {
    /// That of a new log.
    pub fn new(topic_id: TopicId, log_id: &str) -> Self {
        Self {
            topic_id,
            log_id: Some(log_id.to_owned()),
            replaces: None,
        }
    }

    /// Reads the file of a log's directory; `None` when it is missing, damaged or says nothing of a
    /// topic.
    pub fn read(fs: &dyn Fs, dir: &Path) -> io::Result<Option<Self>> {
        let text = match read_text(fs, &dir.join(FILE_NAME), LEN_MAX) {
            Ok(text) => text.unwrap_or_default(),
            // Nobody knows whose log this is.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        };
        let value = |key: &str| {
            let mut pairs = text.lines().filter_map(|line| line.split_once(": "));
            pairs.find_map(|(k, v)| (k == key).then(|| v.to_owned()))
        };
        let topic_id = value("topic_id").as_deref().and_then(parse_topic_id);
        Ok(topic_id.map(|topic_id| Self {
            topic_id,
            log_id: value("log_id"),
            replaces: value("replaces"),
        }))
    }

    /// Writes the file, durably.
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        let mut text = format!("version: 0\ntopic_id: {}\n", self.topic_id);
        for (key, value) in [("log_id", &self.log_id), ("replaces", &self.replaces)] {
            if let Some(value) = value {
                text += &format!("{key}: {value}\n");
            }
        }
        replace(fs, &dir.join(FILE_NAME), text.as_bytes())
    }
}

fn parse_topic_id(text: &str) -> Option<TopicId> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 || !hex.is_ascii() {
        return None;
    }
    let mut id = [0; 16];
    for (i, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(TopicId(id))
}
