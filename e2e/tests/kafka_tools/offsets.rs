//! kafka-get-offsets and kafka-delete-records.

use anyhow::Result;

use crate::Case;
use crate::reset_offsets::fill_two_years;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 4] = [
    ("kafka-get-offsets at every kind of time", every_time),
    ("kafka-get-offsets of partitions and patterns", filters),
    ("kafka-delete-records moves the start of a log", delete),
    (
        "kafka-delete-records refuses an offset beyond the end",
        delete_beyond,
    ),
];

fn every_time(tools: &Tools) -> Result<()> {
    fill_two_years(tools, "timed")?;
    let at = |time: &str| tools.offsets(&format!("--topic timed --time {time}"));
    let [latest, earliest, maximum] =
        together([at("latest"), at("earliest"), at("max-timestamp")])?;
    latest.prints_lines(&["timed:0:10"])?;
    earliest.prints_lines(&["timed:0:0"])?;
    maximum.prints_lines(&["timed:0:9"])?;
    // No record is of that time or later; nothing is tiered.
    let [middle, late, local, tiered] = together([
        at("1590969600000"),
        at("99999999999999"),
        at("earliest-local"),
        at("latest-tiered"),
    ])?;
    middle.prints_lines(&["timed:0:5"])?;
    late.prints_nothing()?;
    local.prints_lines(&["timed:0:0"])?;
    tiered.prints_nothing()?;
    ask(at("bogus"))?.fails(&["Malformed time argument bogus."])
}

fn filters(tools: &Tools) -> Result<()> {
    tools.create("told-1", "--partitions 3")?;
    tools.create("told-2", "--partitions 1")?;
    ask(tools.producer("--topic told-2", "one\ntwo\n")?)?.prints(&[])?;
    let [partitions, pattern, missing] = together([
        tools.offsets("--topic-partitions told-1:1-3,told-2:0"),
        tools.offsets("--topic told-.* --partitions 0 --exclude-internal-topics"),
        tools.offsets("--topic not-there"),
    ])?;
    partitions.prints_lines(&["told-1:1:0", "told-1:2:0", "told-2:0:2"])?;
    pattern.prints_lines(&["told-1:0:0", "told-2:0:2"])?;
    missing.fails(&["Could not match any topic-partitions with the specified filters"])
}

fn delete_to(tools: &Tools, topic: &str, offset: i32) -> Result<crate::tools::Answer> {
    let json = format!(
        r#"{{"partitions":[{{"topic":"{topic}","partition":0,"offset":{offset}}}],"version":1}}"#
    );
    let file = tools.file("records.json", &json)?;
    ask(tools.other(
        "DeleteRecordsCommand",
        &format!("--offset-json-file {}", file.display()),
    ))
}

fn delete(tools: &Tools) -> Result<()> {
    tools.create("shortened", "--partitions 1")?;
    ask(tools.producer("--topic shortened", "0\n1\n2\n3\n4\n")?)?.prints(&[])?;
    delete_to(tools, "shortened", 3)?.prints(&[
        "Executing records delete operation",
        "partition: shortened-0\tlow_watermark: 3",
    ])?;
    let [earliest, left] = together([
        tools.offsets("--topic shortened --time earliest"),
        tools.consumer("--topic shortened --from-beginning --max-messages 2"),
    ])?;
    earliest.prints_lines(&["shortened:0:3"])?;
    left.prints_lines(&["3", "4"])?;
    // All of them
    delete_to(tools, "shortened", -1)?.prints(&["partition: shortened-0\tlow_watermark: 5"])
}

fn delete_beyond(tools: &Tools) -> Result<()> {
    tools.create("kept", "--partitions 1")?;
    ask(tools.producer("--topic kept", "0\n1\n")?)?.prints(&[])?;
    delete_to(tools, "kept", 100)?.has(&["partition: kept-0\terror: ", "OffsetOutOfRange"])?;
    ask(tools.offsets("--topic kept --time earliest"))?.prints_lines(&["kept:0:0"])
}
