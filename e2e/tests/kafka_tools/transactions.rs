//! kafka-transactions, and what consumers of either isolation see of a transaction.

use anyhow::{Result, ensure};

use crate::Case;
use crate::tools::{Answer, Tools, ask, together};

pub(crate) const CASES: [Case; 6] = [
    ("kafka-transactions shows an open transaction", open),
    ("kafka-transactions terminates a transaction", terminate),
    ("kafka-transactions aborts what hangs in a partition", abort),
    ("kafka-transactions finds nothing that hangs", find_hanging),
    ("kafka-transactions says what it does not find", refusals),
    ("console consumer decodes __transaction_state", decode),
];

const HEADER: &str = "TransactionalId\tCoordinator\tProducerId\tTransactionState";

/// A producer ends in the middle of a transaction with one record in a topic's only partition. Both, and
/// the transactional id, have this name.
fn leave(tools: &Tools, name: &str) -> Result<()> {
    tools.create(name, "--partitions 1")?;
    tools
        .transactional()?
        .tool(&["leave", name, name, "600000"])
        .run()?;
    Ok(())
}

/// What consumers see that wait for no transaction, and those that do.
fn visible(tools: &Tools, topic: &str) -> Result<[Answer; 2]> {
    let read = |isolation: &str| {
        tools.consumer(&format!(
            "--topic {topic} --partition 0 --offset earliest --timeout-ms 3000 \
             --isolation-level read_{isolation}"
        ))
    };
    together([read("uncommitted"), read("committed")])
}

/// What was left is in the log, but not committed, and what comes later is not held up.
fn is_aborted(tools: &Tools, topic: &str) -> Result<()> {
    ask(tools.producer(&format!("--topic {topic}"), "later\n")?)?.prints(&[])?;
    let [all, committed] = visible(tools, topic)?;
    all.prints_lines(&["left", "later"])?;
    committed.prints_lines(&["later"])
}

fn open(tools: &Tools) -> Result<()> {
    leave(tools, "open")?;
    let [all, committed] = visible(tools, "open")?;
    all.prints_lines(&["left"])?;
    committed.prints_nothing()?;
    let [listed, described, producers] = together([
        tools.transactions("list"),
        tools.transactions("describe --transactional-id open"),
        tools.transactions("describe-producers --topic open --partition 0"),
    ])?;
    listed.prints(&[HEADER])?;
    let rows = listed.rows("open");
    ensure!(
        rows.len() == 1 && rows[0].get(3) == Some(&"Ongoing"),
        "{}",
        listed.description()
    );
    let (coordinator, producer) = (rows[0][1], rows[0][2]);
    // CoordinatorId TransactionalId ProducerId ProducerEpoch TransactionState TransactionTimeoutMs
    // CurrentTransactionStartTimeMs TransactionDurationMs TopicPartitions
    let rows = described.rows(coordinator);
    ensure!(
        rows.len() == 1
            && rows[0][1..3] == ["open", producer]
            && rows[0][4..6] == ["Ongoing", "600000"]
            && rows[0].last() == Some(&"open-0"),
        "{}",
        described.description()
    );
    // ProducerId ProducerEpoch LatestCoordinatorEpoch LastSequence LastTimestamp
    // CurrentTransactionStartOffset
    let rows = producers.rows(producer);
    ensure!(
        rows.len() == 1 && rows[0].last() == Some(&"0"),
        "{}",
        producers.description()
    );
    let [young, named, others] = together([
        tools.transactions("list --duration-filter 3600000"),
        tools.transactions("list --transactional-id-pattern op.n"),
        tools.transactions("list --transactional-id-pattern closed.*"),
    ])?;
    young.prints_none_of(&["Ongoing"])?;
    named.prints(&["Ongoing"])?;
    others.prints_none_of(&["Ongoing"])?;
    ask(tools.transactions("forceTerminateTransaction --transactionalId open"))?.prints(&[])
}

fn terminate(tools: &Tools) -> Result<()> {
    leave(tools, "terminated")?;
    ask(tools.transactions("forceTerminateTransaction --transactionalId terminated"))?
        .prints(&[])?;
    is_aborted(tools, "terminated")?;
    let described = ask(tools.transactions("describe --transactional-id terminated"))?;
    described.prints(&["\tterminated"])?;
    described.prints_none_of(&["Ongoing", "terminated-0"])
}

fn abort(tools: &Tools) -> Result<()> {
    leave(tools, "aborted")?;
    ask(tools.transactions("abort --topic aborted --partition 0 --start-offset 0"))?.prints(&[])?;
    is_aborted(tools, "aborted")?;
    let [again, producers] = together([
        tools.transactions("abort --topic aborted --partition 0 --start-offset 0"),
        tools.transactions("describe-producers --topic aborted --partition 0"),
    ])?;
    again.fails(&[
        "Could not find any open transactions starting at offset 0 on partition aborted-0",
    ])?;
    producers.prints(&["None"])?;
    ask(tools.transactions("forceTerminateTransaction --transactionalId aborted"))?.prints(&[])
}

fn find_hanging(tools: &Tools) -> Result<()> {
    tools.create("calm", "--partitions 1")?;
    let header = "Topic\tPartition\tProducerId\tProducerEpoch\tCoordinatorEpoch\tStartOffset\t\
                  LastTimestamp\tDuration(min)";
    let [broker, topic, partition] = together([
        tools.transactions("find-hanging --broker-id 0"),
        tools.transactions("find-hanging --topic calm"),
        tools.transactions("find-hanging --topic calm --partition 0 --max-transaction-timeout 5"),
    ])?;
    for answer in [broker, topic, partition] {
        answer.prints(&[header])?;
        ensure!(
            answer.stdout().trim().lines().count() == 1,
            "{}",
            answer.description()
        );
    }
    Ok(())
}

fn refusals(tools: &Tools) -> Result<()> {
    tools.create("idle", "--partitions 1")?;
    let [id, offset, terminated] = together([
        tools.transactions("describe --transactional-id not-there"),
        tools.transactions("abort --topic idle --partition 0 --start-offset 0"),
        tools.transactions("forceTerminateTransaction"),
    ])?;
    id.fails(&[
        "Failed to describe transaction state of transactional-id `not-there`",
        "the ID could not be found",
    ])?;
    offset.fails(&[
        "Could not find any open transactions starting at offset 0 on partition idle-0",
    ])?;
    terminated.fails(&["--transactionalId"])
}

/// Transactions are kept in Kafka's own format.
fn decode(tools: &Tools) -> Result<()> {
    tools.create("rounds", "--partitions 1")?;
    tools
        .transactional()?
        .tool(&["rounds", "rounds", "rounds", "2"])
        .run()?;
    let decoded = ask(tools.consumer(
        "--topic __transaction_state --from-beginning --timeout-ms 5000 --formatter \
         org.apache.kafka.tools.consumer.TransactionLogMessageFormatter",
    ))?;
    decoded.prints(&[
        r#""data":{"transactionalId":"rounds"}},"value":{"version":"#,
        r#""partitionIds":[0]"#,
    ])
}
