//! What the tools tell of the cluster as a whole, and those whose subject a cluster may not have.

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::process::{Signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;

use crate::Case;
use crate::tools::{Tools, ask, together, wait_for_text};

pub(crate) const CASES: [Case; 7] = [
    (
        "kafka-broker-api-versions knows every API of every broker",
        api_versions,
    ),
    ("kafka-cluster tells the id and the endpoints", cluster),
    ("kafka-features describes", features),
    (
        "kafka-metadata-quorum describes status and replication",
        quorum,
    ),
    ("kafka-acls says that there is no authorizer", acls),
    (
        "kafka-streams-groups and kafka-share-groups list nothing",
        other_groups,
    ),
    (
        "kafka-replica-verification finds no lag",
        replica_verification,
    ),
];

/// A case, and why it can't run on Klamm.
pub(crate) type KafkaOnly = (&'static str, fn(&Tools) -> Result<()>, &'static str);

pub(crate) const NO_CLIENT_METRICS: &str = "Klamm does not collect clients' metrics (KIP-714)";
const NO_SHARE_GROUPS: &str = "Klamm has no share groups (KIP-932)";

pub(crate) const KAFKA_ONLY: [KafkaOnly; 3] = [
    (
        "kafka-delegation-tokens is refused without authentication",
        tokens,
        "Klamm has no SASL, and so no delegation tokens",
    ),
    (
        "kafka-client-metrics makes and lists subscriptions",
        client_metrics,
        NO_CLIENT_METRICS,
    ),
    (
        "kafka-console-share-consumer makes a share group",
        share_group,
        NO_SHARE_GROUPS,
    ),
];

fn api_versions(tools: &Tools) -> Result<()> {
    let told = ask(tools.other("BrokerApiVersionsCommand", ""))?;
    told.prints(&[
        "(id: 0 rack: null",
        "(id: 1 rack: null",
        "(id: 2 rack: null",
    ])?;
    let produce = "Produce(0): 0 to 13 [usable: 13]";
    let fetch = "Fetch(1): 4 to 18 [usable: 18]";
    let join = "JoinGroup(11): 0 to 9 [usable: 9]";
    for line in [produce, fetch, join] {
        ensure!(
            told.stdout().matches(line).count() == 3,
            "{line}: {}",
            told.description()
        );
    }
    Ok(())
}

fn cluster(tools: &Tools) -> Result<()> {
    let [id, endpoints, fenced, unknown] = together([
        tools.cluster("cluster-id", ""),
        tools.cluster("list-endpoints", ""),
        tools.cluster("list-endpoints", "--include-fenced-brokers"),
        tools.cluster("unregister", "--id 77"),
    ])?;
    id.prints(&["Cluster ID: "])?;
    let addresses = tools.java().bootstrap().split(',');
    for (broker, address) in addresses.enumerate() {
        let (host, port) = address.rsplit_once(':').context("no port")?;
        for listed in [&endpoints, &fenced] {
            let rows = listed.rows(&broker.to_string());
            let row = [
                &broker.to_string(),
                host,
                port,
                "null",
                "unfenced",
                "broker",
            ];
            ensure!(rows == [row], "{}", listed.description());
        }
    }
    unknown.has(&["BrokerIdNotRegisteredException"])?;
    let id = id.stdout().trim().trim_start_matches("Cluster ID: ");
    ask(tools.other("MetadataQuorumCommand", "describe --status"))?.prints(&[id])
}

fn features(tools: &Tools) -> Result<()> {
    let described = ask(tools.other("FeatureCommand", "describe"))?;
    described.prints(&["Feature: metadata.version\t"])?;
    for (feature, level) in [
        ("eligible.leader.replicas.version", "1"),
        ("transaction.version", "2"),
    ] {
        let lines = described.stdout().lines();
        let line = lines
            .filter(|line| line.starts_with(&format!("Feature: {feature}\t")))
            .collect::<String>();
        ensure!(
            line.contains(&format!("FinalizedVersionLevel: {level}\t")),
            "{}",
            described.description()
        );
    }
    let unknown = ask(tools.other("FeatureCommand", "upgrade --feature no.such=1"))?;
    unknown.fails(&["no.such"])
}

fn quorum(tools: &Tools) -> Result<()> {
    let [status, replication] = together([
        tools.other("MetadataQuorumCommand", "describe --status"),
        tools.other("MetadataQuorumCommand", "describe --replication"),
    ])?;
    status.prints(&[
        "ClusterId: ",
        "LeaderEpoch: ",
        "HighWatermark: ",
        "MaxFollowerLag: ",
        "CurrentVoters:          [{\"id\": 0, ",
        "{\"id\": 2, ",
        "CurrentObservers:       []",
    ])?;
    replication.prints(&["NodeId\tDirectoryId"])?;
    let leader = status.rows("LeaderId:");
    let leader = leader.first().and_then(|row| row.get(1));
    let leader = leader.context("no leader")?;
    for id in ["0", "1", "2"] {
        let rows = replication.rows(id);
        let expected = if id == *leader { "Leader" } else { "Follower" };
        ensure!(
            rows.len() == 1 && rows[0].last() == Some(&expected),
            "{}",
            replication.description()
        );
    }
    Ok(())
}

fn acls(tools: &Tools) -> Result<()> {
    let [listed, added, removed] = together([
        tools.other("AclCommand", "--list"),
        tools.other(
            "AclCommand",
            "--add --allow-principal User:anna --operation Read --topic t",
        ),
        tools.other("AclCommand", "--remove --force --topic t"),
    ])?;
    for answer in [listed, added, removed] {
        answer.fails(&["SecurityDisabledException"])?;
    }
    Ok(())
}

fn other_groups(tools: &Tools) -> Result<()> {
    let [streams, share] = together([
        tools.other("streams.StreamsGroupCommand", "--list"),
        tools.other("consumer.group.ShareGroupCommand", "--list"),
    ])?;
    streams.prints_nothing()?;
    share.prints_nothing()
}

fn tokens(tools: &Tools) -> Result<()> {
    let config = tools.file("admin.properties", "")?;
    let of = format!("--describe --command-config {}", config.display());
    let described = ask(tools.other("DelegationTokenCommand", &of))?;
    described.fails(&["UnsupportedByAuthenticationException"])
}

fn replica_verification(tools: &Tools) -> Result<()> {
    tools.create("verified", "--partitions 1")?;
    tools.fill("verified", 100, 10)?;
    let args = format!(
        "--broker-list {} --topics-include verified --report-interval-ms 500",
        tools.java().bootstrap()
    );
    let mut tool = tools.bare("ReplicaVerificationTool", &args).spawn()?;
    wait_for_text(
        &mut tool,
        "max lag is 0 for partition verified-0 at offset 100 among 1 partitions",
    )?;
    tool.stop(Signal::TERM, TIME_LIMIT)?;
    Ok(())
}

fn client_metrics(tools: &Tools) -> Result<()> {
    let alter = "--alter --name sampled --interval 1000 --metrics org.apache.kafka.";
    ask(tools.other("ClientMetricsCommand", alter))?
        .prints(&["Altered client metrics config for sampled."])?;
    ask(tools.other("ClientMetricsCommand", "--list"))?.prints(&["sampled"])
}

fn share_group(tools: &Tools) -> Result<()> {
    tools.create("shared", "--partitions 1")?;
    let args = "--topic shared --group sharers --timeout-ms 3000";
    ask(tools.other("consumer.ConsoleShareConsumer", args))?.prints(&[])?;
    wait_until("the group is listed", TIME_LIMIT, || {
        ask(tools.other("consumer.group.ShareGroupCommand", "--list"))
            .is_ok_and(|listed| listed.prints(&["sharers"]).is_ok())
    })
}
