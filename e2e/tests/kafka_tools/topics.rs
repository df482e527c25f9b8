//! kafka-topics.

use anyhow::{Result, ensure};

use crate::Case;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 8] = [
    ("kafka-topics creates and describes a topic", create),
    ("kafka-topics puts replicas where it is told", assign),
    ("kafka-topics knows a topic that exists", exists),
    ("kafka-topics shows why it can't create a topic", refuse),
    (
        "kafka-topics describes only what asks for attention",
        filter,
    ),
    ("kafka-topics lists by pattern", list),
    ("kafka-topics adds partitions, and takes none away", alter),
    ("kafka-topics deletes by pattern", delete),
];

fn create(tools: &Tools) -> Result<()> {
    tools.create(
        "made",
        "--partitions 3 --replication-factor 3 --config retention.ms=60000 --config cleanup.policy=compact",
    )?;
    let described = ask(tools.topics("--describe --topic made"))?;
    described.prints(&[
        "Topic: made\tTopicId: ",
        "PartitionCount: 3\tReplicationFactor: 3\t",
        "retention.ms=60000",
        "cleanup.policy=compact",
    ])?;
    for partition in ["0", "1", "2"] {
        let line = format!("Topic: made\tPartition: {partition}\tLeader: {partition}");
        // Leaders are spread, each is its partition's first replica, and all replicas are in sync.
        let lines = described.stdout().lines();
        let leaders = lines.filter(|line| line.contains(&format!("Partition: {partition}\t")));
        let leaders: Vec<_> = leaders.collect();
        ensure!(leaders.len() == 1, "no {line}: {}", described.description());
        let fields: Vec<_> = leaders[0].trim().split('\t').collect();
        let value = |at: usize| fields.get(at).and_then(|field| field.split(' ').nth(1));
        let (leader, replicas, isr) = (value(2), value(3), value(4));
        ensure!(
            replicas == isr
                && replicas.is_some_and(|ids| ids.len() == "0,1,2".len())
                && replicas.and_then(|ids| ids.split(',').next()) == leader,
            "{}",
            leaders[0]
        );
    }
    Ok(())
}

fn assign(tools: &Tools) -> Result<()> {
    tools.create("assigned", "--replica-assignment 0:1,1:2")?;
    ask(tools.topics("--describe --topic assigned"))?.prints(&[
        "ReplicationFactor: 2",
        "Partition: 0\tLeader: 0\tReplicas: 0,1\tIsr: 0,1",
        "Partition: 1\tLeader: 1\tReplicas: 1,2\tIsr: 1,2",
    ])?;
    let more = "--alter --topic assigned --partitions 3 --replica-assignment 0:1,1:2,2:0";
    ask(tools.topics(more))?.prints_nothing()?;
    ask(tools.topics("--describe --topic assigned"))?.prints(&[
        "PartitionCount: 3",
        "Partition: 2\tLeader: 2\tReplicas: 2,0\tIsr: 2,0",
    ])
}

fn exists(tools: &Tools) -> Result<()> {
    tools.create("there", "--partitions 1")?;
    let [again, maybe, missing, missing_allowed] = together([
        tools.topics("--create --topic there"),
        tools.topics("--create --topic there --if-not-exists"),
        tools.topics("--describe --topic not-there"),
        tools.topics("--describe --topic not-there --if-exists"),
    ])?;
    again.fails(&[
        "Error while executing topic command",
        "TopicExistsException",
    ])?;
    maybe.prints_nothing()?;
    missing.fails(&["Topic 'not-there' does not exist as expected"])?;
    missing_allowed.prints_nothing()
}

fn refuse(tools: &Tools) -> Result<()> {
    let create = |topic: &str, args: &str| {
        let tool = tools.topics("--create --topic");
        tool.args([topic]).args(args.split_whitespace())
    };
    let [bad, factor, key, value] = together([
        create("bad name", ""),
        create("refused", "--replication-factor 4"),
        create("refused", "--config no.such=1"),
        create("refused", "--config min.insync.replicas=0"),
    ])?;
    bad.fails(&["InvalidTopicException"])?;
    factor.fails(&["InvalidReplicationFactorException"])?;
    key.fails(&["Unknown topic config name: no.such"])?;
    value.fails(&["min.insync.replicas"])?;
    let long = "n".repeat(250);
    let [dots, long, twice, unknown] = together([
        create("..", ""),
        create(&long, ""),
        create("refused", "--replica-assignment 0:0"),
        create("refused", "--replica-assignment 0:77"),
    ])?;
    dots.fails(&["InvalidTopicException"])?;
    long.fails(&["InvalidTopicException"])?;
    twice.fails(&["Partition replica lists may not contain duplicate entries: 0"])?;
    unknown.fails(&["InvalidReplicaAssignmentException"])?;
    ask(tools.topics("--list"))?.prints_none_of(&["refused"])
}

fn filter(tools: &Tools) -> Result<()> {
    tools.create(
        "filtered",
        "--replica-assignment 0:1 --config min.insync.replicas=2",
    )?;
    tools.create(
        "unmet",
        "--replica-assignment 1:2 --config min.insync.replicas=3",
    )?;
    let [at_minimum, below, lagging, offline] = together([
        tools.topics("--describe --at-min-isr-partitions"),
        tools.topics("--describe --under-min-isr-partitions"),
        tools.topics("--describe --under-replicated-partitions"),
        tools.topics("--describe --unavailable-partitions"),
    ])?;
    at_minimum.prints(&["Topic: filtered\tPartition: 0\tLeader: 0"])?;
    at_minimum.prints_none_of(&["unmet"])?;
    below.prints(&["Topic: unmet\tPartition: 0\tLeader: 1"])?;
    below.prints_none_of(&["filtered"])?;
    lagging.prints_nothing()?;
    offline.prints_nothing()?;
    ask(tools.topics("--describe --topics-with-overrides"))?
        .prints(&["Topic: filtered\t", "min.insync.replicas=3"])
}

fn list(tools: &Tools) -> Result<()> {
    tools.create("pattern-one", "--partitions 1")?;
    tools.create("pattern-two", "--partitions 1")?;
    let [some, all, none] = together([
        tools.topics("--list --topic pattern-.*"),
        tools.topics("--list --exclude-internal"),
        tools.topics("--list --topic pattern-three"),
    ])?;
    some.prints_lines(&["pattern-one", "pattern-two"])?;
    all.prints(&["pattern-one", "pattern-two"])?;
    all.prints_none_of(&["__"])?;
    none.prints_nothing()
}

fn alter(tools: &Tools) -> Result<()> {
    tools.create("grown", "--partitions 1")?;
    ask(tools.topics("--alter --topic grown --partitions 5"))?.prints_nothing()?;
    let [described, fewer, missing, missing_allowed] = together([
        tools.topics("--describe --topic grown"),
        tools.topics("--alter --topic grown --partitions 2"),
        tools.topics("--alter --topic not-there --partitions 2"),
        tools.topics("--alter --topic not-there --partitions 2 --if-exists"),
    ])?;
    described.prints(&["PartitionCount: 5", "Partition: 4\tLeader: "])?;
    fewer.fails(&["InvalidPartitionsException"])?;
    missing.fails(&["Topic 'not-there' does not exist as expected"])?;
    missing_allowed.prints_nothing()
}

fn delete(tools: &Tools) -> Result<()> {
    for topic in ["doomed-1", "doomed-2", "spared"] {
        tools.create(topic, "--partitions 1")?;
    }
    let [deleted, missing, missing_allowed] = together([
        tools.topics("--delete --topic doomed-[12]"),
        tools.topics("--delete --topic not-there"),
        tools.topics("--delete --topic not-there --if-exists"),
    ])?;
    deleted.prints_nothing()?;
    missing.fails(&["Topic 'not-there' does not exist as expected"])?;
    missing_allowed.prints_nothing()?;
    ask(tools.topics("--list --topic doomed.*|spared"))?.prints_lines(&["spared"])
}
