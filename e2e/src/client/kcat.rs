//! kcat, which stands for librdkafka of the age that distributions ship.

use anyhow::{Context as _, Result};

use super::{KafkaClient, MatrixClient, wait_for_partitions};
use crate::tool::{Running, Tool};

/// kcat against one cluster.
#[derive(Debug)]
pub struct Kcat {
    bootstrap: String,
}

impl Kcat {
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
        }
    }

    /// kcat with arguments; the address is given already.
    #[must_use]
    pub fn tool(&self, args: &[&str]) -> Tool {
        Tool::new("kcat")
            .args(["-b", &self.bootstrap, "-E"])
            .args(args)
    }

    /// A program that prints the whole topic, without a group, and ends.
    #[must_use]
    pub fn reader(&self, topic: &str) -> Tool {
        self.tool(&["-C", "-t", topic, "-o", "beginning", "-e", "-q"])
            .args(["-f", FORMAT])
    }
}

const FORMAT: &str = "%p\t%o\t%k\t%s\n";

impl KafkaClient for Kcat {
    fn name(&self) -> &'static str {
        "kcat"
    }

    /// kcat has no admin API: asking for the metadata of a topic creates it.
    fn ensure_topic(&self, topic: &str) -> Result<()> {
        crate::process::wait_until(
            "a topic is created on demand",
            crate::suite::TIME_LIMIT,
            || {
                self.tool(&["-L", "-t", topic]).run().is_ok_and(|output| {
                    output.stdout.contains("leader") && !output.stdout.contains("leader -1")
                })
            },
        )
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.tool(&["-P", "-t", topic, "-K", "\t", "-z", codec])
            .args(["-X", "acks=all", "-X", "enable.idempotence=true"])
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        self.tool(&["-X", "auto.offset.reset=earliest", "-u"])
            .args(["-f", FORMAT, "-G", group, topic])
    }

    fn wait_until_assigned(&self, members: &mut [Running], _group: &str) -> Result<()> {
        wait_for_partitions(members, assigned)
    }
}

impl MatrixClient for Kcat {
    /// Of the line `Version 1.7.1 (JSON, ..., librdkafka 2.0.2 ...)`.
    fn version(&self) -> Result<String> {
        let printed = Tool::new("kcat").args(["-V"]).run()?.stdout;
        let after = |label: &str| {
            let rest = printed.split_once(label).map(|(_, rest)| rest);
            rest.and_then(|rest| rest.split_whitespace().next())
        };
        let version = after("Version ").context("kcat does not tell its version")?;
        let library = after("librdkafka ").unwrap_or("unknown");
        Ok(format!("{version} (librdkafka {library})"))
    }

    fn producer_with_acks(&self, topic: &str, acks: &str) -> Tool {
        self.tool(&["-P", "-t", topic, "-K", "\t"])
            .args([format!("-Xacks={acks}")])
    }

    fn reader_from(&self, topic: &str, partition: i32, offset: i64, count: usize) -> Tool {
        self.tool(&["-C", "-t", topic, "-q", "-f", FORMAT])
            .args(["-p", &partition.to_string(), "-o", &offset.to_string()])
            .args(["-c", &count.to_string()])
            .args(["-X", "auto.offset.reset=earliest"])
    }
}

/// kcat prints `assigned: topic [0], topic [1]`, and `revoked: ...` before it joins anew.
fn assigned(stderr: &str) -> usize {
    let last = stderr.lines().rfind(|line| line.contains("rebalanced"));
    last.and_then(|line| line.split_once("): assigned: "))
        .map_or(0, |(_, partitions)| partitions.matches(" [").count())
}
