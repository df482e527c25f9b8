//! Apache Kafka's own command-line tools, from Maven's jars.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use super::program::parse_brokers;
use super::{Admin, KafkaClient, MatrixClient, PARTITIONS, PartitionState, jvm, replicas};
use crate::cache::client_sources;
use crate::maven::{classpath, kafka_version};
use crate::process::wait_until;
use crate::suite::TIME_LIMIT;
use crate::tool::{Running, Tool};

const HEAP_MIB: u32 = 256;

/// A release of the tools.
#[derive(Debug)]
struct Release {
    name: &'static str,
    /// Below `e2e/clients`
    directory: &'static str,
    console_producer: &'static str,
}

const RELEASE_4: Release = Release {
    name: "java",
    directory: "java",
    console_producer: "org.apache.kafka.tools.ConsoleProducer",
};
const RELEASE_3: Release = Release {
    name: "java-3",
    directory: "java3",
    console_producer: "kafka.tools.ConsoleProducer",
};

impl Release {
    fn pom(&self) -> PathBuf {
        client_sources(self.directory).join("pom.xml")
    }
}

/// The Java client and tools against one cluster.
#[derive(Debug)]
pub struct Java {
    release: Release,
    classpath: String,
    bootstrap: String,
}

impl Java {
    /// Resolves the jars, which takes a network the first time.
    ///
    /// # Errors
    /// When Maven can't.
    pub fn new(bootstrap: &str) -> Result<Self> {
        Self::of(RELEASE_4, bootstrap)
    }

    /// Those of Kafka 3.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_release_3(bootstrap: &str) -> Result<Self> {
        Self::of(RELEASE_3, bootstrap)
    }

    fn of(release: Release, bootstrap: &str) -> Result<Self> {
        Ok(Self {
            classpath: classpath(release.name, &release.pom())?,
            release,
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// The main class of one of Kafka's tools, below `org.apache.kafka.tools`.
    #[must_use]
    pub fn class(&self, class: &str) -> Tool {
        self.main(&format!("org.apache.kafka.tools.{class}"))
    }

    /// kafka-configs, which is of another package.
    #[must_use]
    pub fn configs(&self) -> Tool {
        self.main("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &self.bootstrap])
    }

    /// kafka-dump-log, which reads files and talks to nobody.
    #[must_use]
    pub fn dump_log(&self) -> Tool {
        self.main("kafka.tools.DumpLogSegments")
    }

    fn main(&self, class: &str) -> Tool {
        jvm::java(HEAP_MIB, &self.classpath, class)
    }

    /// As [`Self::class`], for the tools that take `--bootstrap-server`.
    #[must_use]
    pub fn tool(&self, class: &str) -> Tool {
        self.class(class)
            .args(["--bootstrap-server", &self.bootstrap])
    }

    fn producer_tool(&self, topic: &str, acks: &str) -> Tool {
        self.main(self.release.console_producer)
            .args(["--bootstrap-server", &self.bootstrap])
            .args(["--topic", topic, "--request-required-acks", acks])
            .args(["--property", "parse.key=true"])
            .args(["--property", "key.separator=\t"])
    }

    /// Prints messages as [`crate::messages::parse`] reads them.
    fn consumer(&self, topic: &str) -> Tool {
        let shown = ["print.partition", "print.offset", "print.key"];
        let tool = self.tool("consumer.ConsoleConsumer");
        let tool = tool.args(["--topic", topic]);
        shown.iter().fold(tool, |tool, property| {
            tool.args(["--property", &format!("{property}=true")])
        })
    }

    /// The jars, with `:` between.
    #[must_use]
    pub fn classpath(&self) -> &str {
        &self.classpath
    }

    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The lines that `kafka-consumer-groups --describe` prints, without the header.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn describe_group(&self, group: &str, what: &[&str]) -> Result<Vec<Vec<String>>> {
        let output = self
            .tool("consumer.group.ConsumerGroupCommand")
            .args(["--describe", "--group", group])
            .args(what)
            .run()?;
        let rows = output.stdout.lines().filter(|line| line.starts_with(group));
        let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        Ok(rows.map(fields).collect())
    }

    /// Kafka's producer and consumer performance tests; prints what they measure.
    ///
    /// # Errors
    /// When not all messages are sent and consumed.
    pub fn perf_tests(&self, topic: &str, messages: u64) -> Result<()> {
        self.ensure_topic(topic)?;
        let count = messages.to_string();
        let produced = self
            .class("ProducerPerformance")
            .args(["--topic", topic, "--num-records", &count])
            .args(["--record-size", "100", "--throughput", "-1"])
            .args(["--producer-props", "acks=all"])
            .args([format!("bootstrap.servers={}", self.bootstrap)])
            .run()?
            .stdout;
        let summary = produced.lines().last().context("nothing printed")?;
        println!("    {summary}");
        let all_sent = summary.starts_with(&format!("{count} records sent"));
        ensure!(all_sent, "{produced}");
        let consumed = self
            .tool("ConsumerPerformance")
            .args(["--topic", topic, "--messages", &count])
            .run()?
            .stdout;
        // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, ...
        let summary = consumed.lines().last().context("nothing printed")?;
        println!("    {summary}");
        let field = summary
            .split(", ")
            .nth(4)
            .and_then(|field| field.parse::<u64>().ok());
        ensure!(
            field.is_some_and(|consumed| consumed >= messages),
            "{consumed}"
        );
        Ok(())
    }
}

impl KafkaClient for Java {
    fn name(&self) -> &'static str {
        self.release.name
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.create_topic(topic, PARTITIONS, replicas(&self.bootstrap))
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.producer_tool(topic, "all")
            .args(["--compression-codec", codec])
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        self.consumer(topic)
            .args(["--group", group, "--from-beginning"])
    }

    fn wait_until_assigned(&self, members: &mut [Running], group: &str) -> Result<()> {
        wait_until("every member has partitions", TIME_LIMIT, || {
            // GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS
            let rows = self.describe_group(group, &["--members"]);
            rows.is_ok_and(|rows| {
                rows.len() == members.len()
                    && rows
                        .iter()
                        .all(|row| row.get(4).is_some_and(|count| count != "0"))
            })
        })
    }
}

impl MatrixClient for Java {
    fn version(&self) -> Result<String> {
        kafka_version(&self.release.pom())
    }

    fn producer_with_acks(&self, topic: &str, acks: &str) -> Tool {
        self.producer_tool(topic, acks)
            .args(["--producer-property", "enable.idempotence=false"])
    }

    fn reader_from(&self, topic: &str, partition: i32, offset: i64, count: usize) -> Tool {
        self.consumer(topic)
            .args(["--partition", &partition.to_string()])
            .args(["--offset", &offset.to_string()])
            .args(["--max-messages", &count.to_string()])
            .args(["--consumer-property", "auto.offset.reset=earliest"])
    }
}

impl Admin for Java {
    fn create_topic(&self, topic: &str, partitions: usize, replicas: usize) -> Result<()> {
        self.tool("TopicCommand")
            .args(["--create", "--topic", topic])
            .args(["--partitions", &partitions.to_string()])
            .args(["--replication-factor", &replicas.to_string()])
            .run()?;
        Ok(())
    }

    fn describe_topic(&self, topic: &str) -> Result<Vec<PartitionState>> {
        let output = self
            .tool("TopicCommand")
            .args(["--describe", "--topic", topic])
            .run()?;
        let rows = output
            .stdout
            .lines()
            .filter(|line| line.contains("Partition: "));
        rows.map(parse_partition).collect()
    }

    fn delete_topic(&self, topic: &str) -> Result<()> {
        self.tool("TopicCommand")
            .args(["--delete", "--topic", topic])
            .run()?;
        Ok(())
    }

    fn list_topics(&self) -> Result<Vec<String>> {
        let output = self.tool("TopicCommand").args(["--list"]).run()?;
        Ok(output.stdout.lines().map(str::to_owned).collect())
    }

    fn committed(&self, topic: &str, group: &str) -> Result<i64> {
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG ...
        let rows = self.describe_group(group, &["--offsets"])?;
        let rows = rows
            .iter()
            .filter(|row| row.get(1).is_some_and(|name| name == topic));
        let offsets = rows.map(|row| {
            ensure!(row.len() > 5, "strange row: {row:?}");
            Ok(row[3].parse::<i64>().unwrap_or(0))
        });
        offsets.sum()
    }
}

/// `Topic: T Partition: 0 Leader: 1 Replicas: 1,2,0 Isr: 1,2,0 ...`
fn parse_partition(line: &str) -> Result<PartitionState> {
    let words: Vec<_> = line.split_whitespace().collect();
    let after = |label: &str| {
        let at = words.iter().position(|word| *word == label);
        at.and_then(|at| words.get(at + 1))
            .with_context(|| format!("no {label} in {line:?}"))
    };
    Ok(PartitionState {
        partition: after("Partition:")?.parse()?,
        leader: after("Leader:")?.parse()?,
        replicas: parse_brokers(after("Replicas:")?)?,
        isr: parse_brokers(after("Isr:")?)?,
    })
}
