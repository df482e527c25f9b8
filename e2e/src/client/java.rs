//! Apache Kafka's own command-line tools, from Maven's jars.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::program::parse_brokers;
use super::{Admin, KafkaClient, PARTITIONS, PartitionState, replicas};
use crate::cache::{built, client_sources};
use crate::process::wait_until;
use crate::suite::TIME_LIMIT;
use crate::tool::{Running, Tool};

const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The Java client and tools against one cluster.
#[derive(Debug)]
pub struct Java {
    classpath: String,
    bootstrap: String,
}

impl Java {
    /// Resolves the jars, which takes a network the first time.
    ///
    /// # Errors
    /// When Maven can't.
    pub fn new(bootstrap: &str) -> Result<Self> {
        let pom = client_sources("java").join("pom.xml");
        let directory = built("java", std::slice::from_ref(&pom), |directory| {
            let file = directory.join("classpath");
            Tool::new("mvn")
                .args(["--quiet", "--batch-mode", "--file"])
                .args([&pom])
                .args(["dependency:build-classpath"])
                .args([format!("-Dmdep.outputFile={}", file.display())])
                .time_limit(FETCH_LIMIT)
                .run()?;
            Ok(())
        })?;
        let file = directory.join("classpath");
        let classpath =
            fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
        Ok(Self {
            classpath: classpath.trim().to_owned(),
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// The main class of one of Kafka's tools, below `org.apache.kafka.tools`.
    #[must_use]
    pub fn class(&self, class: &str) -> Tool {
        self.main(&format!("org.apache.kafka.tools.{class}"))
    }

    /// kafka-configs, the one tool of another package.
    #[must_use]
    pub fn configs(&self) -> Tool {
        self.main("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &self.bootstrap])
    }

    fn main(&self, class: &str) -> Tool {
        let logging = client_sources("java").join("log4j2.properties");
        // The compiler that starts fast suits programs that live for seconds.
        Tool::new("java")
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args([format!("-Dlog4j2.configurationFile={}", logging.display())])
            .args(["-cp", &self.classpath, class])
    }

    /// As [`Self::class`], for the tools that take `--bootstrap-server`.
    #[must_use]
    pub fn tool(&self, class: &str) -> Tool {
        self.class(class)
            .args(["--bootstrap-server", &self.bootstrap])
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
        "java"
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.create_topic(topic, PARTITIONS, replicas(&self.bootstrap))
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.tool("ConsoleProducer")
            .args(["--topic", topic, "--compression-codec", codec])
            .args(["--request-required-acks", "all"])
            .args(["--property", "parse.key=true"])
            .args(["--property", "key.separator=\t"])
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        let shown = ["print.partition", "print.offset", "print.key"];
        let mut tool = self.tool("consumer.ConsoleConsumer").args([
            "--topic",
            topic,
            "--group",
            group,
            "--from-beginning",
        ]);
        for property in shown {
            tool = tool.args(["--property", &format!("{property}=true")]);
        }
        tool
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
