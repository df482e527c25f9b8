//! kafka-reassign-partitions and kafka-leader-election.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::process::wait_until;
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Tool;

use crate::Case;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 6] = [
    ("kafka-reassign-partitions proposes a plan", generate),
    (
        "kafka-reassign-partitions moves a replica and verifies it",
        execute,
    ),
    (
        "kafka-reassign-partitions throttles, lists and cancels",
        cancel,
    ),
    (
        "kafka-reassign-partitions refuses a plan that can't be",
        refusals,
    ),
    ("kafka-leader-election elects the preferred leader", elect),
    (
        "kafka-leader-election where nothing is to be elected",
        elect_nothing,
    ),
];

/// Of partition 0 of the topic.
fn plan(tools: &Tools, topic: &str, replicas: &str) -> Result<PathBuf> {
    let json = format!(
        r#"{{"version":1,"partitions":[{{"topic":"{topic}","partition":0,"replicas":[{replicas}]}}]}}"#
    );
    tools.file(
        &format!("{topic}-{}.json", replicas.replace(',', "-")),
        &json,
    )
}

fn with_plan(tools: &Tools, plan: &PathBuf, action: &str) -> Tool {
    tools
        .reassign("--reassignment-json-file")
        .args([plan])
        .args(action.split_whitespace())
}

fn wait_until_completed(tools: &Tools, plan: &PathBuf, partition: &str) -> Result<()> {
    let completed = format!("Reassignment of partition {partition} is completed.");
    wait_until("the reassignment is completed", TIME_LIMIT, || {
        let verified = ask(with_plan(tools, plan, "--verify"));
        verified.is_ok_and(|answer| {
            answer
                .prints(&["Status of partition reassignment:", &completed])
                .is_ok()
        })
    })
}

fn generate(tools: &Tools) -> Result<()> {
    tools.create("planned", "--replica-assignment 0:1,1:0")?;
    let topics = tools.file(
        "topics.json",
        r#"{"version":1,"topics":[{"topic":"planned"}]}"#,
    )?;
    let args = format!(
        "--generate --broker-list 1,2 --topics-to-move-json-file {}",
        topics.display()
    );
    let proposed = ask(tools.reassign(&args))?;
    proposed.prints(&[
        "Current partition replica assignment\n{\"version\":1,\"partitions\":[{\"topic\":\"planned\",\
         \"partition\":0,\"replicas\":[0,1],",
        "Proposed partition reassignment configuration\n{\"version\":1,\"partitions\":[",
    ])?;
    let (_, proposal) = proposed
        .stdout()
        .split_once("Proposed")
        .context("no proposal")?;
    let replicas = ["\"replicas\":[1,2]", "\"replicas\":[2,1]"];
    for order in replicas {
        ensure!(proposal.contains(order), "{}", proposed.description());
    }
    // A proposal is not carried out.
    ask(tools.topics("--describe --topic planned"))?.prints(&["Replicas: 0,1\tIsr: 0,1"])
}

fn execute(tools: &Tools) -> Result<()> {
    tools.create("moved", "--replica-assignment 0:1")?;
    ask(tools.producer("--topic moved", "one\ntwo\n")?)?.prints(&[])?;
    let plan = plan(tools, "moved", "2,1")?;
    ask(with_plan(tools, &plan, "--execute"))?.prints(&[
        "Current partition replica assignment",
        "\"replicas\":[0,1]",
        "Save this to use as the --reassignment-json-file option during rollback",
        "Successfully started partition reassignment for moved-0",
    ])?;
    wait_until_completed(tools, &plan, "moved-0")?;
    let [described, read, listed] = together([
        tools.topics("--describe --topic moved"),
        tools.consumer("--topic moved --from-beginning --max-messages 2"),
        tools.reassign("--list"),
    ])?;
    described.prints(&["Partition: 0\tLeader: 2\tReplicas: 2,1\t"])?;
    read.prints_lines(&["one", "two"])?;
    listed.prints(&["No partition reassignments found."])
}

fn cancel(tools: &Tools) -> Result<()> {
    tools.create("slow", "--replica-assignment 0:1")?;
    tools.fill("slow", 5_000, 1000)?;
    let plan = plan(tools, "slow", "0,2")?;
    ask(with_plan(tools, &plan, "--execute --throttle 10000"))?.prints(&[
        "The inter-broker throttle limit was set to 10000 B/s",
        "Successfully started partition reassignment for slow-0",
    ])?;
    let [listed, again, verified, throttles] = together([
        tools.reassign("--list"),
        with_plan(tools, &plan, "--execute"),
        with_plan(tools, &plan, "--verify --preserve-throttles"),
        tools.configs("--describe --entity-type topics --entity-name slow"),
    ])?;
    listed.prints(&[
        "Current partition reassignments:",
        "slow-0: ",
        "adding: 2.",
        "removing: 1.",
    ])?;
    again.fails(&["Cannot execute because there is an existing partition assignment."])?;
    verified.prints(&["Reassignment of partition slow-0 is still in progress."])?;
    throttles.prints(&[
        "leader.replication.throttled.replicas=0:0,0:1 ",
        "follower.replication.throttled.replicas=0:2 ",
    ])?;
    ask(with_plan(tools, &plan, "--cancel"))?
        .prints(&["Successfully cancelled partition reassignment for: slow-0"])?;
    let [described, throttles, brokers, listed] = together([
        tools.topics("--describe --topic slow"),
        tools.configs("--describe --entity-type topics --entity-name slow"),
        tools.configs("--describe --entity-type brokers"),
        tools.reassign("--list"),
    ])?;
    described.prints(&["Partition: 0\tLeader: 0\tReplicas: 0,1\tIsr: 0,1"])?;
    throttles.prints_none_of(&["throttled"])?;
    brokers.prints_none_of(&["throttled.rate"])?;
    listed.prints(&["No partition reassignments found."])?;
    ask(with_plan(tools, &plan, "--cancel"))?
        .prints(&["None of the specified partition moves are active."])
}

fn refusals(tools: &Tools) -> Result<()> {
    tools.create("fixed", "--replica-assignment 0:1")?;
    let (unknown, twice) = (plan(tools, "fixed", "0,77")?, plan(tools, "fixed", "0,0")?);
    let (none, missing) = (plan(tools, "fixed", "")?, plan(tools, "not-there", "0,1")?);
    let [unknown, twice, none, missing] = together([
        with_plan(tools, &unknown, "--execute"),
        with_plan(tools, &twice, "--execute"),
        with_plan(tools, &none, "--execute"),
        with_plan(tools, &missing, "--execute"),
    ])?;
    unknown.fails(&["Unknown broker id 77"])?;
    twice.fails(&["Partition replica lists may not contain duplicate entries"])?;
    none.fails(&["Partition replica list cannot be empty"])?;
    missing.fails(&["UnknownTopicOrPartitionException"])?;
    ask(tools.topics("--describe --topic fixed"))?.prints(&["Replicas: 0,1\tIsr: 0,1"])
}

fn elect(tools: &Tools) -> Result<()> {
    tools.create("swapped", "--replica-assignment 0:1:2")?;
    let plan = plan(tools, "swapped", "2,0,1")?;
    ask(with_plan(tools, &plan, "--execute"))?.prints(&["Successfully started"])?;
    wait_until_completed(tools, &plan, "swapped-0")?;
    ask(tools.topics("--describe --topic swapped"))?
        .prints(&["Partition: 0\tLeader: 0\tReplicas: 2,0,1\t"])?;
    let partitions = tools.file(
        "elections.json",
        r#"{"partitions":[{"topic":"swapped","partition":0}]}"#,
    )?;
    let file = format!(
        "--election-type preferred --path-to-json-file {}",
        partitions.display()
    );
    ask(tools.elect(&file))?
        .prints(&["Successfully completed leader election (PREFERRED) for partitions swapped-0"])?;
    ask(tools.topics("--describe --topic swapped"))?.prints(&["Partition: 0\tLeader: 2\t"])
}

fn elect_nothing(tools: &Tools) -> Result<()> {
    tools.create("settled", "--replica-assignment 0:1,1:2")?;
    let one = |args: &str| tools.elect(&format!("--topic settled --partition 0 {args}"));
    let [preferred, unclean, all, missing] = together([
        one("--election-type preferred"),
        one("--election-type unclean"),
        tools.elect("--election-type preferred --all-topic-partitions"),
        tools.elect("--election-type preferred --topic not-there --partition 0"),
    ])?;
    for answer in [preferred, unclean] {
        answer.prints(&["Valid replica already elected for partitions settled-0"])?;
    }
    all.prints_none_of(&["settled"])?;
    missing.fails(&[
        "Error completing leader election (PREFERRED) for partition: not-there-0: ",
        "UnknownTopicOrPartitionException",
        "1 replica(s) could not be elected",
    ])
}
