//! kafka-log-dirs.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Case;
use crate::tools::{Answer, Tools, ask, together};

pub(crate) const CASES: [Case; 2] = [
    ("kafka-log-dirs tells the sizes of replicas", sizes),
    ("kafka-log-dirs of some brokers and of none", brokers),
];

/// The last line is JSON.
fn directories(answer: &Answer) -> Result<Value> {
    answer.prints(&["Querying brokers for log directories information"])?;
    let line = answer.stdout().lines().last().context("nothing printed")?;
    Ok(serde_json::from_str(line)?)
}

fn sizes(tools: &Tools) -> Result<()> {
    tools.create("weighed", "--partitions 1")?;
    tools.fill("weighed", 100, 1000)?;
    let described = ask(tools.other("LogDirsCommand", "--describe --topic-list weighed"))?;
    described.prints(&["Received log directory information from brokers 0,1,2"])?;
    let json = directories(&described)?;
    let brokers = json["brokers"].as_array().context("no brokers")?;
    ensure!(brokers.len() == 3, "{json}");
    for broker in brokers {
        let partition = &broker["logDirs"][0]["partitions"][0];
        let size = partition["size"].as_u64().unwrap_or(0);
        ensure!(
            partition["partition"] == "weighed-0"
                && size > 100 * 1000
                && size < 120 * 1000
                && partition["offsetLag"] == 0
                && partition["isFuture"] == false
                && broker["logDirs"][0]["error"].is_null(),
            "{json}"
        );
    }
    Ok(())
}

fn brokers(tools: &Tools) -> Result<()> {
    tools.create("spread", "--replica-assignment 0:1")?;
    let [some, none, topics] = together([
        tools.other(
            "LogDirsCommand",
            "--describe --broker-list 1,2 --topic-list spread",
        ),
        tools.other("LogDirsCommand", "--describe --broker-list 9"),
        tools.other("LogDirsCommand", "--describe --topic-list not-there"),
    ])?;
    some.prints(&["Received log directory information from brokers 1,2"])?;
    let json = directories(&some)?;
    let partitions = |broker: usize| json["brokers"][broker]["logDirs"][0]["partitions"].as_array();
    ensure!(partitions(0).is_some_and(|list| list.len() == 1), "{json}");
    ensure!(partitions(1).is_some_and(Vec::is_empty), "{json}");
    none.fails(&["The given brokers do not exist from --broker-list: 9."])?;
    let json = directories(&topics)?;
    ensure!(
        json["brokers"][0]["logDirs"][0]["partitions"] == serde_json::json!([]),
        "{json}"
    );
    Ok(())
}
