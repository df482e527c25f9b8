//! kafka-consumer-groups and kafka-groups: what groups there are, and what becomes of them.

use anyhow::{Result, ensure};
use klamm_e2e::process::Signal;
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Running;

use crate::Case;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 6] = [
    (
        "kafka-consumer-groups lists groups with state and type",
        list,
    ),
    (
        "kafka-consumer-groups describes a group with members",
        active,
    ),
    (
        "kafka-consumer-groups describes a group of the consumer protocol",
        consumer_protocol,
    ),
    (
        "kafka-consumer-groups leaves a group with members alone",
        refusals,
    ),
    ("kafka-consumer-groups deletes offsets", delete_offsets),
    ("kafka-consumer-groups deletes groups", delete),
];

const MESSAGES: usize = 100;

/// A topic with messages, and a group that has offsets there.
fn committed(tools: &Tools, name: &str, partitions: u8) -> Result<()> {
    tools.create(name, &format!("--partitions {partitions}"))?;
    let reset = format!("--reset-offsets --group {name} --topic {name} --to-latest --execute");
    ask(tools.groups(&reset))?.prints(&[name])
}

/// A member that has got the topic's partitions and stays.
fn member(tools: &Tools, name: &str, protocol: &str) -> Result<Running> {
    tools.create(name, "--partitions 2")?;
    tools.fill_partitions(name, MESSAGES)?;
    let args = format!("--topic {name} --group-id {name} --group-protocol {protocol} --verbose");
    let mut member = tools.other("VerifiableConsumer", &args).spawn()?;
    // It commits after each poll.
    member.wait_for("all is committed", TIME_LIMIT, |member| {
        let printed = member.stdout();
        let count = |name: &str| printed.matches(&format!("\"name\":\"{name}\"")).count();
        count("record_data") == MESSAGES && count("offsets_committed") == count("records_consumed")
    })?;
    Ok(member)
}

fn leave(member: &mut Running) -> Result<()> {
    member.stop(Signal::TERM, TIME_LIMIT)?;
    Ok(())
}

fn list(tools: &Tools) -> Result<()> {
    committed(tools, "listed", 1)?;
    let [names, states, empty, stable] = together([
        tools.groups("--list"),
        tools.groups("--list --state --type"),
        tools.groups("--list --state Empty"),
        tools.groups("--list --state Stable"),
    ])?;
    ensure!(
        names.stdout().lines().any(|line| line.trim() == "listed"),
        "{}",
        names.description()
    );
    let rows = states.rows("listed");
    ensure!(rows == [["listed", "Classic", "Empty"]], "{rows:?}");
    let rows = empty.rows("listed");
    ensure!(rows == [["listed", "Empty"]], "{rows:?}");
    stable.prints_none_of(&["listed"])?;
    let [all, wrong] = together([
        tools.other("GroupsCommand", "--list"),
        tools.groups("--list --state Happy"),
    ])?;
    ensure!(!all.rows("listed").is_empty(), "{}", all.description());
    wrong.fails(&["Invalid state list 'Happy'"])
}

fn active(tools: &Tools) -> Result<()> {
    let mut member = member(tools, "active", "classic")?;
    let [offsets, members, state] = together([
        tools.groups("--describe --group active --offsets"),
        tools.groups("--describe --group active --members --verbose"),
        tools.groups("--describe --group active --state"),
    ])?;
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID
    let rows = offsets.rows("active");
    ensure!(rows.len() == 2, "{}", offsets.description());
    for row in rows {
        ensure!(
            row.len() == 9 && row[5] == "0" && row[3] == row[4],
            "{row:?}"
        );
        ensure!(
            row[6].starts_with("consumer-") && row[7] == "/127.0.0.1",
            "{row:?}"
        );
    }
    // GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS CURRENT-EPOCH CURRENT-ASSIGNMENT ...
    let rows = members.rows("active");
    ensure!(
        rows.len() == 1 && rows[0].get(4) == Some(&"2") && rows[0].contains(&"active:0,1"),
        "{}",
        members.description()
    );
    // GROUP COORDINATOR (ID) ASSIGNMENT-STRATEGY STATE #MEMBERS
    let rows = state.rows("active");
    ensure!(
        rows.len() == 1 && rows[0].get(3..6) == Some(&["range", "Stable", "1"][..]),
        "{}",
        state.description()
    );
    leave(&mut member)?;
    ask(tools.groups("--describe --group active"))?
        .has(&["Consumer group 'active' has no active members."])
}

fn consumer_protocol(tools: &Tools) -> Result<()> {
    let mut member = member(tools, "modern", "consumer")?;
    let [members, state, listed] = together([
        tools.groups("--describe --group modern --members"),
        tools.groups("--describe --group modern --state"),
        tools.other("GroupsCommand", "--list --group-type consumer"),
    ])?;
    let rows = members.rows("modern");
    ensure!(
        rows.len() == 1 && rows[0].get(4) == Some(&"2"),
        "{}",
        members.description()
    );
    let rows = state.rows("modern");
    ensure!(
        rows.len() == 1 && rows[0].get(3..6) == Some(&["uniform", "Stable", "1"][..]),
        "{}",
        state.description()
    );
    let rows = listed.rows("modern");
    ensure!(rows == [["modern", "Consumer", "consumer"]], "{rows:?}");
    leave(&mut member)
}

fn refusals(tools: &Tools) -> Result<()> {
    let mut member = member(tools, "busy", "classic")?;
    let [reset, offsets, group] = together([
        tools.groups("--reset-offsets --group busy --topic busy --to-earliest --execute"),
        tools.groups("--delete-offsets --group busy --topic busy:0"),
        tools.groups("--delete --group busy"),
    ])?;
    reset.has(&[
        "Assignments can only be reset if the group 'busy' is inactive, but the current state is Stable.",
    ])?;
    offsets.has(&["GroupSubscribedToTopicException"])?;
    group.has(&[
        "Group 'busy' could not be deleted due to: ",
        "GroupNotEmptyException",
    ])?;
    let rows = ask(tools.groups("--describe --group busy --offsets"))?;
    let rows = rows.rows("busy");
    let kept = rows.len() == 2 && rows.iter().all(|row| row.get(5) == Some(&"0"));
    ensure!(kept, "{rows:?}");
    leave(&mut member)
}

fn delete_offsets(tools: &Tools) -> Result<()> {
    committed(tools, "forgotten", 2)?;
    let delete = |topic: &str| {
        tools.groups(&format!(
            "--delete-offsets --group forgotten --topic {topic}"
        ))
    };
    let deleted = ask(delete("forgotten:0"))?;
    deleted.prints(&["Request succeeded for deleting offsets from group forgotten."])?;
    let rows = deleted.rows("forgotten");
    ensure!(rows == [["forgotten", "0", "Successful"]], "{rows:?}");
    let [left, missing, no_group] = together([
        tools.groups("--describe --group forgotten"),
        delete("not-there"),
        tools.groups("--delete-offsets --group not-there --topic forgotten"),
    ])?;
    let rows = left.rows("forgotten");
    ensure!(rows.len() == 1 && rows[0][2] == "1", "{rows:?}");
    missing.has(&["UnknownTopicOrPartitionException"])?;
    no_group.has(&["GroupIdNotFoundException"])
}

fn delete(tools: &Tools) -> Result<()> {
    committed(tools, "ended-1", 1)?;
    committed(tools, "ended-2", 1)?;
    let deleted = ask(tools.groups("--delete --group ended-1 --group ended-2 --group not-there"))?;
    deleted.has(&[
        "Deletion of some consumer groups failed:",
        "Group 'not-there' could not be deleted due to: ",
        "GroupIdNotFoundException",
    ])?;
    let [listed, described] = together([
        tools.groups("--list"),
        tools.groups("--describe --group ended-1"),
    ])?;
    listed.prints_none_of(&["ended-1", "ended-2"])?;
    described.has(&["GroupIdNotFoundException"])
}
