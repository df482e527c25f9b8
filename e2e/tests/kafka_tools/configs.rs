//! kafka-configs: topics, brokers and quotas.

use anyhow::{Result, ensure};

use crate::Case;
use crate::cluster::KafkaOnly;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 9] = [
    (
        "kafka-configs sets a topic's configuration and takes it away",
        topic,
    ),
    (
        "kafka-configs describes all of a topic's configuration",
        topic_all,
    ),
    (
        "kafka-configs refuses what a topic can't have",
        topic_refusals,
    ),
    ("kafka-configs sets a broker's configuration", broker),
    (
        "kafka-configs sets the default of all brokers",
        broker_default,
    ),
    (
        "kafka-configs refuses what brokers can't change",
        broker_refusals,
    ),
    ("kafka-configs sets quotas of users", users),
    ("kafka-configs sets quotas of clients", clients),
    ("kafka-configs sets quotas of addresses", ips),
];

const NO_AUTHENTICATION: &str = "Klamm has no SASL";

pub(crate) const KAFKA_ONLY: [KafkaOnly; 5] = [
    (
        "kafka-configs sets a topic's compression",
        compression,
        "Klamm keeps batches as producers compressed them and does not know compression.type",
    ),
    (
        "kafka-configs sets a group's configuration",
        group,
        "Klamm has no configuration of single groups",
    ),
    (
        "kafka-configs sets a SCRAM password",
        scram,
        NO_AUTHENTICATION,
    ),
    (
        "kafka-configs shows a broker's loggers",
        loggers,
        "loggers of a JVM; Klamm's log level is set where it is started",
    ),
    (
        "kafka-configs subscribes to clients' metrics",
        client_metrics,
        crate::cluster::NO_CLIENT_METRICS,
    ),
];

fn topic(tools: &Tools) -> Result<()> {
    tools.create("set", "--partitions 1 --config retention.ms=60000")?;
    let set = |args: &str| {
        let args = format!("--alter --entity-type topics --entity-name set {args}");
        ask(tools.configs(&args))?.prints(&["Completed updating config for topic set."])
    };
    let describe = || ask(tools.configs("--describe --entity-type topics --entity-name set"));
    set("--add-config cleanup.policy=[compact,delete],segment.bytes=2097152")?;
    describe()?.prints(&[
        "Dynamic configs for topic set are:",
        "  cleanup.policy=compact,delete sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:",
        "  retention.ms=60000 ",
        "  segment.bytes=2097152 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=2097152, \
         DEFAULT_CONFIG:log.segment.bytes=1073741824}",
    ])?;
    set("--delete-config cleanup.policy,retention.ms")?;
    let described = describe()?;
    described.prints(&["segment.bytes=2097152"])?;
    described.prints_none_of(&["cleanup.policy", "retention.ms"])
}

fn topic_all(tools: &Tools) -> Result<()> {
    tools.create("all", "--partitions 1 --config max.message.bytes=5000")?;
    ask(tools.configs("--describe --all --entity-type topics --entity-name all"))?.prints(&[
        "All configs for topic all are:",
        "  cleanup.policy=delete ",
        "  max.message.bytes=5000 ",
        "  message.timestamp.type=CreateTime ",
        "  min.insync.replicas=2 ",
        "  retention.bytes=-1 ",
        "  retention.ms=604800000 ",
        "  segment.bytes=1073741824 ",
        "  unclean.leader.election.enable=false ",
    ])
}

fn topic_refusals(tools: &Tools) -> Result<()> {
    tools.create("strict", "--partitions 1")?;
    let alter = |topic: &str, args: &str| {
        let args = format!("--alter --entity-type topics --entity-name {topic} {args}");
        tools.configs(&args)
    };
    let [key, value, word, undeletable] = together([
        alter("strict", "--add-config no.such=1"),
        alter("strict", "--add-config retention.ms=-2"),
        alter("strict", "--add-config cleanup.policy=shred"),
        alter("strict", "--delete-config no.such"),
    ])?;
    key.fails(&["InvalidConfigurationException", "no.such"])?;
    value.fails(&["InvalidConfigurationException", "retention.ms"])?;
    word.fails(&["InvalidConfigurationException", "cleanup.policy"])?;
    undeletable.fails(&["Invalid config(s): no.such"])?;
    let [missing, described, unchanged] = together([
        alter("not-there", "--add-config retention.ms=1"),
        tools.configs("--describe --entity-type topics --entity-name not-there"),
        tools.configs("--describe --entity-type topics --entity-name strict"),
    ])?;
    missing.fails(&["UnknownTopicOrPartitionException"])?;
    described.prints(&["The topic 'not-there' doesn't exist and doesn't have dynamic config."])?;
    unchanged.prints_none_of(&["retention.ms", "cleanup.policy"])
}

fn broker(tools: &Tools) -> Result<()> {
    let key = "leader.replication.throttled.rate";
    let alter = |args: &str| {
        let args = format!("--alter --entity-type brokers --entity-name 1 {args}");
        ask(tools.configs(&args))?.prints(&["Completed updating config for broker 1."])
    };
    let describe = |id: &str| {
        tools.configs(&format!(
            "--describe --entity-type brokers --entity-name {id}"
        ))
    };
    alter(&format!("--add-config {key}=1000000"))?;
    let [described, other, all] =
        together([describe("1"), describe("2"), describe("1").args(["--all"])])?;
    let line = format!("  {key}=1000000 sensitive=false synonyms={{DYNAMIC_BROKER_CONFIG:");
    described.prints(&["Dynamic configs for broker 1 are:", &line])?;
    other.prints_none_of(&[key])?;
    all.prints(&[
        "All configs for broker 1 are:",
        &line,
        "  auto.create.topics.enable=true ",
        "  default.replication.factor=3 sensitive=false synonyms={STATIC_BROKER_CONFIG:",
    ])?;
    alter(&format!("--delete-config {key}"))?;
    ask(describe("1"))?.prints_none_of(&[key])
}

fn broker_default(tools: &Tools) -> Result<()> {
    tools.create("heir", "--partitions 1")?;
    let alter = |args: &str| {
        let args = format!("--alter --entity-type brokers --entity-default {args}");
        ask(tools.configs(&args))?
            .prints(&["Completed updating default config for brokers in the cluster."])
    };
    alter("--add-config log.retention.ms=7200000")?;
    let inherited = "--describe --all --entity-type topics --entity-name heir";
    let [default, inherited] = together([
        tools.configs("--describe --entity-type brokers --entity-default"),
        tools.configs(inherited),
    ])?;
    default.prints(&[
        "Default configs for brokers in the cluster are:",
        "  log.retention.ms=7200000 sensitive=false \
         synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7200000",
    ])?;
    inherited.prints(&["  retention.ms=7200000 "])?;
    alter("--delete-config log.retention.ms")?;
    ask(tools.configs("--describe --entity-type brokers --entity-default"))?
        .prints_none_of(&["log.retention.ms"])
}

fn broker_refusals(tools: &Tools) -> Result<()> {
    let alter = |args: &str| {
        tools.configs(&format!(
            "--alter --entity-type brokers --entity-name 1 {args}"
        ))
    };
    let [fixed, value, missing] = together([
        alter("--add-config log.dirs=/elsewhere"),
        alter("--add-config leader.replication.throttled.rate=fast"),
        tools.configs("--describe --entity-type brokers --entity-name one"),
    ])?;
    fixed.fails(&["log.dirs"])?;
    value.fails(&["leader.replication.throttled.rate"])?;
    missing
        .fails(&["The entity name for brokers must be a valid integer broker id, but it is: one"])
}

fn users(tools: &Tools) -> Result<()> {
    let user = "--entity-type users --entity-name anna";
    let pair = format!("{user} --entity-type clients --entity-name reports");
    let alter = |of: &str, args: &str| {
        ask(tools.configs(&format!("--alter {of} {args}")))?
            .prints(&["Completed updating config for user anna."])
    };
    let describe = |of: &str| tools.configs(&format!("--describe {of}"));
    alter(
        user,
        "--add-config producer_byte_rate=1048576,consumer_byte_rate=2097152",
    )?;
    alter(&pair, "--add-config request_percentage=200")?;
    let [described, paired] = together([describe(user), describe(&pair)])?;
    described.prints(&["Quota configs for user-principal 'anna' are \
         consumer_byte_rate=2097152.0, producer_byte_rate=1048576.0"])?;
    paired.prints(&[
        "Quota configs for user-principal 'anna', client-id 'reports' are request_percentage=200.0",
    ])?;
    alter(user, "--delete-config producer_byte_rate")?;
    alter(&pair, "--delete-config request_percentage")?;
    let [described, paired] = together([describe(user), describe(&pair)])?;
    described.prints(&["'anna' are consumer_byte_rate=2097152.0"])?;
    paired.prints_none_of(&["request_percentage"])?;
    alter(user, "--delete-config consumer_byte_rate")
}

fn clients(tools: &Tools) -> Result<()> {
    let default = "--entity-type clients --entity-default";
    let of = |name: &str| format!("--entity-type clients --entity-name {name}");
    let alter = |of: &str, args: &str| tools.configs(&format!("--alter {of} {args}"));
    let [one, all, unknown, value] = together([
        alter(&of("bulk"), "--add-config consumer_byte_rate=5000000"),
        alter(default, "--add-config consumer_byte_rate=9000000"),
        alter(&of("bulk"), "--add-config no_such_rate=20"),
        alter(&of("bulk"), "--add-config consumer_byte_rate=much"),
    ])?;
    one.prints(&["Completed updating config for client bulk."])?;
    all.prints(&["Completed updating default config for clients in the cluster."])?;
    unknown.fails(&["Unexpected config names: Set(no_such_rate)"])?;
    value.fails(&["consumer_byte_rate"])?;
    ask(tools.configs("--describe --entity-type clients"))?.prints(&[
        "Quota configs for client-id 'bulk' are consumer_byte_rate=5000000.0",
        "Quota configs for the default client-id are consumer_byte_rate=9000000.0",
    ])?;
    let delete = "--delete-config consumer_byte_rate";
    let [one, all] = together([alter(&of("bulk"), delete), alter(default, delete)])?;
    one.prints(&[])?;
    all.prints(&[])?;
    ask(tools.configs("--describe --entity-type clients"))?.prints_none_of(&["consumer_byte_rate"])
}

fn ips(tools: &Tools) -> Result<()> {
    let one = "--entity-type ips --entity-name 10.0.0.7";
    let alter = |args: &str| tools.configs(&format!("--alter {args}"));
    let [set, named] = together([
        alter(&format!("{one} --add-config connection_creation_rate=20")),
        alter("--entity-type ips --entity-name not-an-ip --add-config connection_creation_rate=20"),
    ])?;
    set.prints(&["Completed updating config for ip 10.0.0.7."])?;
    named.fails(&["must be a valid IP or resolvable host, but it is: not-an-ip"])?;
    ask(tools.configs("--describe --entity-type ips"))?
        .prints(&["Quota configs for ip '10.0.0.7' are connection_creation_rate=20.0"])?;
    ask(alter(&format!(
        "{one} --delete-config connection_creation_rate"
    )))?
    .prints(&[])?;
    let left = ask(tools.configs("--describe --entity-type ips"))?;
    left.prints_none_of(&["10.0.0.7"])
}

fn compression(tools: &Tools) -> Result<()> {
    tools.create("packed", "--partitions 1 --config compression.type=zstd")?;
    ask(tools.configs("--describe --entity-type topics --entity-name packed"))?
        .prints(&["  compression.type=zstd "])
}

fn group(tools: &Tools) -> Result<()> {
    let of = "--entity-type groups --entity-name tuned";
    let added = "--add-config consumer.session.timeout.ms=50000";
    ask(tools.configs(&format!("--alter {of} {added}")))?
        .prints(&["Completed updating config for group tuned."])?;
    ask(tools.configs(&format!("--describe {of}")))?.prints(&["consumer.session.timeout.ms=50000"])
}

fn scram(tools: &Tools) -> Result<()> {
    let of = "--entity-type users --entity-name berta";
    let added = "--add-config SCRAM-SHA-256=[password=secret]";
    ask(tools.configs(&format!("--alter {of} {added}")))?
        .prints(&["Completed updating config for user berta."])?;
    ask(tools.configs(&format!("--describe {of}")))?.prints(&["SCRAM-SHA-256=iterations="])
}

fn loggers(tools: &Tools) -> Result<()> {
    let of = "--entity-type broker-loggers --entity-name 1";
    let described = ask(tools.configs(&format!("--describe {of}")))?;
    described.prints(&["Dynamic configs for broker-logger 1 are:"])?;
    ensure!(
        described.stdout().contains("=INFO"),
        "{}",
        described.description()
    );
    Ok(())
}

fn client_metrics(tools: &Tools) -> Result<()> {
    let of = "--entity-type client-metrics --entity-name watched";
    ask(tools.configs(&format!("--alter {of} --add-config interval.ms=10000")))?
        .prints(&["Completed updating config for client-metric watched."])?;
    ask(tools.configs(&format!("--describe {of}")))?.prints(&["interval.ms=10000"])
}
