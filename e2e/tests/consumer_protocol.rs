//! Groups of the consumer protocol (KIP-848) on three brokers: Kafka's own consumer and librdkafka's,
//! the death of a coordinator, and groups that change between the protocols while they consume.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Java, KafkaClient, Klamm, PARTITIONS, Program, confluent_kafka};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::messages::{parse, value};
use klamm_e2e::process::{Signal, wait_until};
use klamm_e2e::suite::{self, TIME_LIMIT};
use klamm_e2e::tool::{Running, Tool};

const MESSAGES: u64 = 2_000;

fn main() -> ExitCode {
    let mut cases = Cases::new("consumer-protocol");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(3, &suite::OVERRIDES)?;
    let java = Java::new(&cluster.bootstrap())?;
    let confluent = confluent_kafka(&cluster.bootstrap())?;
    suite::group_of_two(cases, &NewJava(&java, &confluent));
    suite::group_of_two(cases, &NewConfluent(&confluent));
    cases.run("consumer-protocol: Kafka's tool describes a group", || {
        describe(&java)
    });
    cases.run("consumer-protocol: a regular expression subscribes", || {
        regex(&confluent, &Klamm::new(&cluster.bootstrap())?)
    });
    cases.run("consumer-protocol: a group changes protocols", || {
        migrate(&java, &confluent)
    });
    cases.run("consumer-protocol: a coordinator dies", || {
        fail_over(&cluster, &confluent)
    });
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// Kafka's consumer with the new protocol, and a producer that starts faster than Kafka's.
struct NewJava<'a>(&'a Java, &'a Program);

impl KafkaClient for NewJava<'_> {
    fn name(&self) -> &'static str {
        "java-consumer"
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.1.ensure_topic(topic)
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.1.producer(topic, codec)
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        let new = ["--consumer-property", "group.protocol=consumer"];
        self.0.member(topic, group).args(new)
    }

    fn wait_until_assigned(&self, members: &mut [Running], group: &str) -> Result<()> {
        self.0.wait_until_assigned(members, group)
    }
}

/// librdkafka's consumer with the new protocol.
struct NewConfluent<'a>(&'a Program);

impl KafkaClient for NewConfluent<'_> {
    fn name(&self) -> &'static str {
        "confluent-consumer"
    }

    fn ensure_topic(&self, topic: &str) -> Result<()> {
        self.0.ensure_topic(topic)
    }

    fn producer(&self, topic: &str, codec: &str) -> Tool {
        self.0.producer(topic, codec)
    }

    fn member(&self, topic: &str, group: &str) -> Tool {
        self.0.tool(&["member", topic, group, "consumer"])
    }

    fn wait_until_assigned(&self, members: &mut [Running], group: &str) -> Result<()> {
        self.0.wait_until_assigned(members, group)
    }
}

fn describe(java: &Java) -> Result<()> {
    let command = |args: &[&str]| {
        let tool = java.tool("consumer.group.ConsumerGroupCommand");
        tool.args(args).run()
    };
    let listed = command(&["--list", "--type", "consumer"])?.stdout;
    let is_listed = |group: &str| listed.lines().any(|line| line.starts_with(group));
    ensure!(is_listed("java-consumer-group"), "not listed:\n{listed}");
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let rows = java.describe_group("confluent-consumer-group", &["--offsets"])?;
    let has_lag = |row: &Vec<String>| row.get(5).is_none_or(|lag| lag != "0");
    ensure!(
        rows.len() == PARTITIONS && !rows.iter().any(has_lag),
        "{rows:?}"
    );
    command(&["--delete", "--group", "java-consumer-group"])?;
    Ok(())
}

/// The coordinator matches names; a topic that comes later is found as well.
fn regex(confluent: &Program, klamm: &Klamm) -> Result<()> {
    let new = NewConfluent(confluent);
    new.ensure_topic("regex-a")?;
    let mut members = [new.member("^regex-.*", "regex-group").spawn()?];
    new.wait_until_assigned(&mut members, "regex-group")?;
    new.ensure_topic("regex-b")?;
    for (topic, numbers) in [
        ("regex-a", 0..MESSAGES),
        ("regex-b", MESSAGES..2 * MESSAGES),
    ] {
        suite::produce(&new, topic, numbers, "none")?;
    }
    let described = klamm.json(&["groups", "describe", "regex-group"])?;
    let members_described = described["members"].as_array().map_or(0, Vec::len);
    ensure!(members_described == 1, "{described}");
    let consumed = suite::consume(&mut members, 2 * MESSAGES)?;
    let count: usize = consumed.iter().map(Vec::len).sum();
    ensure!(count as u64 == 2 * MESSAGES, "{count} messages");
    Ok(())
}

/// Members of the classic protocol are joined by one of the new protocol, leave, and come back; the
/// last one of the new protocol leaves.
fn migrate(java: &Java, confluent: &Program) -> Result<()> {
    let (topic, group) = ("migrated", "migrated-group");
    confluent.ensure_topic(topic)?;
    let new = NewJava(java, confluent);
    let mut classic = confluent.member(topic, group).spawn()?;
    confluent.wait_until_assigned(std::slice::from_mut(&mut classic), group)?;
    let mut consumed = Vec::new();
    suite::produce(confluent, topic, 0..MESSAGES, "none")?;

    let mut upgraded = new.member(topic, group).spawn()?;
    wait_for_two_members(java, group)?;
    suite::produce(confluent, topic, MESSAGES..2 * MESSAGES, "none")?;
    wait_for_messages(&[], &[&classic, &upgraded], 2 * MESSAGES)?;
    ensure!(upgraded.stdout_lines() > 0, "the new member got nothing");
    consumed.push(classic.stop(Signal::TERM, TIME_LIMIT)?.stdout);
    ensure!(group_type(java, group)? == "Consumer", "not upgraded");

    let mut returned = confluent.member(topic, group).spawn()?;
    returned.wait_for("it has partitions", TIME_LIMIT, |member| {
        member.stderr().contains("assigned ")
    })?;
    consumed.push(upgraded.stop(Signal::TERM, TIME_LIMIT)?.stdout);
    wait_until("it is a classic group again", TIME_LIMIT, || {
        group_type(java, group).is_ok_and(|group_type| group_type == "Classic")
    })?;
    suite::produce(confluent, topic, 2 * MESSAGES..3 * MESSAGES, "none")?;
    wait_for_messages(&consumed, &[&returned], 3 * MESSAGES)?;
    returned.stop(Signal::TERM, TIME_LIMIT)?;
    Ok(())
}

/// The broker that coordinates the group is killed; members go on with the one that follows.
fn fail_over(cluster: &DevCluster, confluent: &Program) -> Result<()> {
    let (topic, group) = ("failed-over", "failed-over-group");
    let new = NewConfluent(confluent);
    new.ensure_topic(topic)?;
    let mut members = [
        new.member(topic, group).spawn()?,
        new.member(topic, group).spawn()?,
    ];
    new.wait_until_assigned(&mut members, group)?;
    let mut sent = 0;
    for id in 0..cluster.nodes() {
        suite::produce(&new, topic, sent..sent + MESSAGES, "none")?;
        sent += MESSAGES;
        let pid = cluster.broker_pid(id)?;
        cluster.kill(id)?;
        cluster.wait_until_restarted(id, pid)?;
    }
    suite::produce(&new, topic, sent..sent + MESSAGES, "none")?;
    sent += MESSAGES;
    wait_for_messages(&[], &members.iter().collect::<Vec<_>>(), sent)?;
    for member in &mut members {
        member.stop(Signal::TERM, TIME_LIMIT)?;
    }
    Ok(())
}

fn wait_for_two_members(java: &Java, group: &str) -> Result<()> {
    wait_until("all members have partitions", TIME_LIMIT, || {
        // GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS
        let rows = java
            .describe_group(group, &["--members"])
            .unwrap_or_default();
        let parts = rows
            .iter()
            .map(|row| row.get(4).and_then(|n| n.parse::<usize>().ok()));
        let parts: Option<Vec<usize>> = parts.collect();
        parts.is_some_and(|parts| {
            parts.len() == 2
                && parts.iter().all(|count| *count > 0)
                && parts.iter().sum::<usize>() == PARTITIONS
        })
    })
}

fn group_type(java: &Java, group: &str) -> Result<String> {
    let tool = java.tool("consumer.group.ConsumerGroupCommand");
    let listed = tool.args(["--list", "--type"]).run()?.stdout;
    let rows = listed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row.first() == Some(&group));
    let row = row.with_context(|| format!("{group} is not in\n{listed}"))?;
    Ok(row.get(1).map(ToString::to_string).unwrap_or_default())
}

/// Waits until each message was consumed, after changes of members perhaps twice, by those that printed
/// `outputs` and by `members`.
fn wait_for_messages(outputs: &[String], members: &[&Running], count: u64) -> Result<()> {
    let missing = || -> Result<Vec<u64>> {
        let printed = members.iter().map(|member| member.stdout());
        let mut values = BTreeSet::new();
        for output in outputs.iter().cloned().chain(printed) {
            let lines = output.rfind('\n').map_or("", |end| &output[..end]);
            values.extend(parse(lines)?.into_iter().map(|message| message.value));
        }
        let is_missing = |number: &u64| !values.contains(&value(*number));
        Ok((0..count).filter(is_missing).collect())
    };
    wait_until("all messages are consumed", TIME_LIMIT, || {
        missing().is_ok_and(|missing| missing.is_empty())
    })
    .with_context(|| match missing() {
        Ok(missing) => format!("{} of {count} are missing", missing.len()),
        Err(error) => format!("{error:#}"),
    })
}
