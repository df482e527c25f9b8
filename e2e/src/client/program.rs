//! A client program of this project; its commands are described in `e2e/clients/README.md`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{
    Admin, CODECS, KafkaClient, MatrixClient, PARTITIONS, PartitionState, replicas,
    wait_for_partitions,
};
use crate::messages::Delivery;
use crate::tool::{Running, Tool};

/// A client program against one cluster.
#[derive(Debug)]
pub struct Program {
    pub(super) name: &'static str,
    /// The program, and what comes before the address.
    pub(super) command: Vec<PathBuf>,
    pub(super) bootstrap: String,
    pub(super) codecs: &'static [&'static str],
    pub(super) delivery: Delivery,
    pub(super) loses_messages: Option<&'static str>,
}

impl Program {
    /// An idempotent client with every codec.
    pub(super) fn new(name: &'static str, command: Vec<PathBuf>, bootstrap: &str) -> Self {
        Self {
            name,
            command,
            bootstrap: bootstrap.to_owned(),
            codecs: &CODECS,
            delivery: Delivery::ExactlyOnce,
            loses_messages: None,
        }
    }

    /// The program with a command.
    #[must_use]
    pub fn tool(&self, args: &[&str]) -> Tool {
        let (program, before) = self.command.split_first().expect("a program");
        Tool::new(program)
            .args(before)
            .args([&self.bootstrap])
            .args(args)
    }

    /// The program, its address and a command, for one who starts it in another way than [`Tool`].
    #[must_use]
    pub fn command_line(&self, args: &[String]) -> Vec<OsString> {
        let before = self
            .command
            .iter()
            .map(|part| part.clone().into_os_string());
        let after = [&self.bootstrap].into_iter().chain(args);
        before.chain(after.map(OsString::from)).collect()
    }
}

impl KafkaClient for Program {
    fn name(&self) -> &'static str {
        self.name
    }

    fn codecs(&self) -> &'static [&'static str] {
        self.codecs
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.create_topic(topic, PARTITIONS, replicas(&self.bootstrap))
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.tool(&["produce", topic, codec])
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        self.tool(&["member", topic, group])
    }

    fn wait_until_assigned(&self, members: &mut [Running], _group: &str) -> Result<()> {
        wait_for_partitions(members, assigned)
    }
}

impl MatrixClient for Program {
    fn version(&self) -> Result<String> {
        Ok(self.tool(&["version"]).run()?.stdout.trim().to_owned())
    }

    fn loses_messages(&self) -> Option<&'static str> {
        self.loses_messages
    }

    fn delivery(&self) -> Delivery {
        self.delivery
    }

    fn producer_with_acks(&self, topic: &str, acks: &str) -> Tool {
        self.tool(&["produce-acks", topic, acks])
    }

    fn reader_from(&self, topic: &str, partition: i32, offset: i64, count: usize) -> Tool {
        let (partition, offset) = (partition.to_string(), offset.to_string());
        self.tool(&["fetch", topic, &partition, &offset, &count.to_string()])
    }
}

impl Admin for Program {
    fn create_topic(&self, topic: &str, partitions: usize, replicas: usize) -> Result<()> {
        let (partitions, replicas) = (partitions.to_string(), replicas.to_string());
        self.tool(&["create-topic", topic, &partitions, &replicas])
            .run()?;
        Ok(())
    }

    fn describe_topic(&self, topic: &str) -> Result<Vec<PartitionState>> {
        let output = self.tool(&["describe-topic", topic]).run()?;
        output.stdout.lines().map(parse_partition).collect()
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.tool(&["delete-topic", topic]).run()?;
        Ok(())
    }

    fn list_topics(&self) -> Result<Vec<String>> {
        let output = self.tool(&["list-topics"]).run()?;
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }

    fn committed(&self, topic: &str, group: &str) -> Result<i64> {
        let output = self.tool(&["committed", topic, group]).run()?;
        let offsets = output.stdout.lines().map(|line| {
            let offset = line.split('\t').nth(1).context("no offset")?;
            Ok(offset.parse::<i64>()?.max(0))
        });
        offsets.sum()
    }
}

fn assigned(stderr: &str) -> usize {
    let mut counts = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("assigned "));
    let last = counts.next_back();
    last.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn parse_partition(line: &str) -> Result<PartitionState> {
    let malformed = || format!("not a partition: {line:?}");
    let fields: Vec<_> = line.split('\t').collect();
    let [partition, leader, replicas, isr] = fields[..] else {
        anyhow::bail!(malformed());
    };
    Ok(PartitionState {
        partition: partition.parse().with_context(malformed)?,
        leader: leader.parse().with_context(malformed)?,
        replicas: parse_brokers(replicas).with_context(malformed)?,
        isr: parse_brokers(isr).with_context(malformed)?,
    })
}

pub(super) fn parse_brokers(text: &str) -> Result<Vec<i32>> {
    let ids = text.split(',').filter(|id| !id.is_empty());
    ids.map(|id| Ok(id.trim().parse()?)).collect()
}
