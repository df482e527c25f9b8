//! The `klamm` command.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{Admin, KafkaClient, MatrixClient, PARTITIONS, PartitionState, wait_for_partitions};
use crate::CLI_BIN;
use crate::tool::{Running, Tool};

/// The command that [`CLI_BIN`] names, on one cluster.
#[derive(Debug)]
pub struct Klamm {
    program: PathBuf,
    bootstrap: String,
}

impl Klamm {
    /// # Errors
    /// When the variable names no file.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let program = std::env::var_os(CLI_BIN).map(PathBuf::from);
        let hint = "build it with `cargo build -p klamm-cli`, or run `cargo xtask test`";
        let program = program.with_context(|| format!("{CLI_BIN} is not set: {hint}"))?;
        ensure!(
            program.is_file(),
            "{} is no file: {hint}",
            program.display()
        );
        Ok(Self {
            program,
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// The command with arguments; the address is given already.
    #[must_use]
    pub fn tool(&self, args: &[&str]) -> Tool {
        Tool::new(&self.program)
            .args(["-b", &self.bootstrap])
            .args(args)
    }

    /// What the command prints for programs.
    ///
    /// # Errors
    /// When it fails.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let printed = self.tool(&["-o", "json"]).args(args).run()?.stdout;
        serde_json::from_str(&printed).with_context(|| format!("no JSON: {printed}"))
    }
}

impl KafkaClient for Klamm {
    fn name(&self) -> &'static str {
        "klamm"
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.create_topic(topic, PARTITIONS, super::replicas(&self.bootstrap))
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.tool(&["produce", topic, "-k", "\t", "-z", codec])
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        self.tool(&["consume", topic, "-g", group, "-s", "earliest"])
            .args(["--offsets", "-k", "\t"])
    }

    fn wait_until_assigned(&self, members: &mut [Running], _group: &str) -> Result<()> {
        wait_for_partitions(members, |stderr| {
            let mut lines = stderr.lines().rev();
            let count = lines.find_map(|line| line.strip_prefix("partitions to read: "));
            count.and_then(|count| count.parse().ok()).unwrap_or(0)
        })
    }
}

impl MatrixClient for Klamm {
    fn version(&self) -> Result<String> {
        let printed = self.tool(&["--version"]).run()?.stdout;
        Ok(printed.trim().trim_start_matches("klamm ").to_owned())
    }

    fn producer_with_acks(&self, topic: &str, acks: &str) -> Tool {
        let acks = match acks {
            "0" => "none",
            "1" => "leader",
            all => all,
        };
        self.tool(&["produce", topic, "-k", "\t", "--acks", acks])
    }

    fn reader_from(&self, topic: &str, partition: i32, offset: i64, count: usize) -> Tool {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        self.tool(&["consume", topic, "-p", &partition, "-s", &offset])
            .args(["-n", &count.to_string(), "--offsets", "-k", "\t"])
    }
}

impl Admin for Klamm {
    fn create_topic(&self, topic: &str, partitions: usize, replicas: usize) -> Result<()> {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        let args = [
            "topics",
            "create",
            topic,
            "-p",
            &partitions,
            "-r",
            &replicas,
        ];
        self.tool(&args).run().map(drop)
    }

    fn describe_topic(&self, topic: &str) -> Result<Vec<PartitionState>> {
        let ids = |ids: &Value| {
            let ids = ids.as_array().into_iter().flatten();
            ids.filter_map(|id| Some(id.as_i64()? as i32)).collect()
        };
        let described = self.json(&["topics", "describe", topic])?;
        let partitions = described.as_array().context("no list")?.iter();
        let partitions = partitions.map(|partition| PartitionState {
            partition: partition["partition"].as_i64().unwrap_or(-1) as i32,
            leader: partition["leader"].as_i64().unwrap_or(-1) as i32,
            replicas: ids(&partition["replicas"]),
            isr: ids(&partition["in_sync"]),
        });
        Ok(partitions.collect())
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.tool(&["topics", "delete", topic]).run().map(drop)
    }

    fn list_topics(&self) -> Result<Vec<String>> {
        let listed = self.json(&["topics", "list"])?;
        let topics = listed.as_array().context("no list")?.iter();
        let names = topics.filter_map(|topic| Some(topic["name"].as_str()?.to_owned()));
        Ok(names.collect())
    }

    fn committed(&self, topic: &str, group: &str) -> Result<i64> {
        let described = self.json(&["groups", "describe", group])?;
        let offsets = described["offsets"].as_array().context("no offsets")?;
        let of_topic = offsets.iter().filter(|offset| offset["topic"] == topic);
        Ok(of_topic
            .filter_map(|offset| offset["committed"].as_i64())
            .sum())
    }
}
