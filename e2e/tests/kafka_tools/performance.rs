//! The tools that measure, and the verifiable clients.

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::process::Signal;
use klamm_e2e::suite::TIME_LIMIT;

use crate::Case;
use crate::tools::{Tools, ask, wait_for_text};

pub(crate) const CASES: [Case; 4] = [
    ("perf tests in transactions", transactional),
    ("kafka-e2e-latency sends and receives each message", latency),
    ("verifiable producer and consumer agree", verifiable),
    ("verifiable consumer reports a second member", two_members),
];

const MESSAGES: u32 = 2_000;

fn transactional(tools: &Tools) -> Result<()> {
    tools.create("measured", "--partitions 2")?;
    let bootstrap = tools.java().bootstrap();
    let produced = ask(tools.bare(
        "ProducerPerformance",
        &format!(
            "--topic measured --num-records {MESSAGES} --record-size 100 --throughput 4000 \
             --transactional-id measured --transaction-duration-ms 100 --print-metrics \
             --producer-props acks=all bootstrap.servers={bootstrap}"
        ),
    ))?;
    produced.prints(&[
        &format!("{MESSAGES} records sent, "),
        " 99.9th.",
        "record-send-total:{client-id=perf-producer-client, topic=measured}",
    ])?;
    let config = tools.file("committed.properties", "isolation.level=read_committed\n")?;
    let consumed = ask(tools.other(
        "ConsumerPerformance",
        &format!(
            "--topic measured --messages {MESSAGES} --consumer.config {} --timeout 20000",
            config.display()
        ),
    ))?;
    consumed
        .prints(&["start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg"])?;
    let last = consumed
        .stdout()
        .lines()
        .last()
        .context("nothing printed")?;
    let count = last.split(", ").nth(4);
    ensure!(
        count == Some(&MESSAGES.to_string()),
        "{}",
        consumed.description()
    );
    Ok(())
}

fn latency(tools: &Tools) -> Result<()> {
    tools.create("echoed", "--partitions 1")?;
    let args = format!("{} echoed 200 all 100", tools.java().bootstrap());
    let measured = ask(tools.bare("EndToEndLatency", &args))?;
    measured.prints(&["Avg latency: ", "Percentiles: 50th = "])
}

/// The numbers of the messages, in the order of the lines with this name.
fn values(printed: &str, name: &str) -> Result<Vec<u32>> {
    let lines = printed
        .lines()
        .map(serde_json::from_str::<serde_json::Value>);
    let mut values = Vec::new();
    for line in lines {
        let line = line?;
        if line["name"] == name {
            let value = line["value"].as_str().context("no value")?;
            values.push(value.parse()?);
        }
    }
    Ok(values)
}

fn verifiable(tools: &Tools) -> Result<()> {
    tools.create("verifiable", "--partitions 1")?;
    let produced = ask(tools.other(
        "VerifiableProducer",
        "--topic verifiable --max-messages 500",
    ))?;
    produced.prints(&["\"name\":\"tool_data\",\"sent\":500,\"acked\":500,"])?;
    let consumed = ask(tools.other(
        "VerifiableConsumer",
        "--topic verifiable --group-id verifiers --max-messages 500 --verbose",
    ))?;
    consumed.prints(&[
        r#""offsets":[{"topic":"verifiable","partition":0,"offset":500}],"success":true"#,
        r#""name":"shutdown_complete""#,
    ])?;
    let sent = values(produced.stdout(), "producer_send_success")?;
    let read = values(consumed.stdout(), "record_data")?;
    ensure!(sent == (0..500).collect::<Vec<_>>(), "sent {sent:?}");
    ensure!(read == sent, "read {read:?}");
    Ok(())
}

fn two_members(tools: &Tools) -> Result<()> {
    tools.create("divided", "--partitions 2")?;
    let member = || tools.other("VerifiableConsumer", "--topic divided --group-id dividers");
    let mut first = member().spawn()?;
    wait_for_text(&mut first, "\"partition\":1}]")?;
    let mut second = member().spawn()?;
    wait_for_text(
        &mut second,
        "\"name\":\"partitions_assigned\",\"partitions\":[{",
    )?;
    let assigned = second.stdout();
    ensure!(
        assigned.matches("\"partition\":").count() == 1,
        "{assigned}"
    );
    wait_for_text(&mut first, "\"name\":\"partitions_revoked\"")?;
    second.stop(Signal::TERM, TIME_LIMIT)?;
    first.stop(Signal::TERM, TIME_LIMIT)?;
    Ok(())
}
