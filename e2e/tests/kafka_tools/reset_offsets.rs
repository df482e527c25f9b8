//! kafka-consumer-groups --reset-offsets, in every form.

use anyhow::{Result, ensure};

use crate::Case;
use crate::tools::{Answer, Tools, ask, together};

pub(crate) const CASES: [Case; 5] = [
    (
        "kafka-consumer-groups resets to the ends and to an offset",
        ends,
    ),
    (
        "kafka-consumer-groups shifts offsets, within the log",
        shift,
    ),
    ("kafka-consumer-groups resets to points in time", times),
    (
        "kafka-consumer-groups resets from a file that it exported",
        file,
    ),
    (
        "kafka-consumer-groups only shows what a reset would do",
        dry_run,
    ),
];

/// Of 2020-01-01 and of 2021-01-01, UTC; half of a topic's messages are from then each.
const BEGINNINGS_MS: [u64; 2] = [1_577_836_800_000, 1_609_459_200_000];
const HALF: u64 = 5;

/// A topic with messages of two times, in one partition.
pub(crate) fn fill_two_years(tools: &Tools, topic: &str) -> Result<()> {
    tools.create(topic, "--partitions 1 --config retention.ms=-1")?;
    for beginning in BEGINNINGS_MS {
        let sent = ask(tools.other(
            "VerifiableProducer",
            &format!("--topic {topic} --max-messages {HALF} --message-create-time {beginning}"),
        ))?;
        sent.prints(&["\"name\":\"tool_data\",\"sent\":5,\"acked\":5,"])?;
    }
    Ok(())
}

fn reset(tools: &Tools, name: &str, form: &str) -> Result<Answer> {
    ask(tools.groups(&format!("--reset-offsets --group {name} {form}")))
}

/// The rows are of GROUP TOPIC PARTITION NEW-OFFSET.
fn is_set(answer: &Answer, name: &str, offsets: &[(&str, &str)]) -> Result<()> {
    answer.prints(&["NEW-OFFSET"])?;
    let mut rows = answer.rows(name);
    rows.sort_unstable();
    let expected: Vec<_> = offsets
        .iter()
        .map(|(partition, offset)| vec![name, name, partition, offset])
        .collect();
    ensure!(rows == expected, "{}", answer.description());
    Ok(())
}

/// What the group has committed, as `--describe` shows it.
fn is_committed(tools: &Tools, name: &str, offset: &str) -> Result<()> {
    let described = ask(tools.groups(&format!("--describe --group {name}")))?;
    let rows = described.rows(name);
    ensure!(
        rows.len() == 1 && rows[0].get(3) == Some(&offset),
        "not {offset}: {}",
        described.description()
    );
    Ok(())
}

fn execute(tools: &Tools, name: &str, form: &str, offset: &str) -> Result<()> {
    let answer = reset(tools, name, &format!("--topic {name} {form} --execute"))?;
    is_set(&answer, name, &[("0", offset)])
}

fn ends(tools: &Tools) -> Result<()> {
    let name = "reset-ends";
    fill_two_years(tools, name)?;
    execute(tools, name, "--to-latest", "10")?;
    is_committed(tools, name, "10")?;
    execute(tools, name, "--to-offset 4", "4")?;
    execute(tools, name, "--to-current", "4")?;
    execute(tools, name, "--to-earliest", "0")?;
    is_committed(tools, name, "0")?;
    let missing = reset(tools, name, "--topic not-there --to-latest --execute")?;
    missing.has(&["UnknownTopicOrPartitionException"])
}

fn shift(tools: &Tools) -> Result<()> {
    let name = "reset-shifted";
    fill_two_years(tools, name)?;
    execute(tools, name, "--to-offset 6", "6")?;
    execute(tools, name, "--shift-by -2", "4")?;
    execute(tools, name, "--shift-by 3", "7")?;
    is_committed(tools, name, "7")?;
    execute(tools, name, "--shift-by 100", "10")?;
    execute(tools, name, "--shift-by -100", "0")?;
    execute(tools, name, "--to-offset 100", "10")
}

fn times(tools: &Tools) -> Result<()> {
    let name = "reset-times";
    fill_two_years(tools, name)?;
    execute(tools, name, "--to-datetime 2020-06-01T00:00:00.000", "5")?;
    is_committed(tools, name, "5")?;
    execute(tools, name, "--to-datetime 2019-12-31T23:59:59.999", "0")?;
    execute(tools, name, "--to-datetime 2021-01-02T00:00:00.000Z", "10")?;
    // Some time in the seventies, then yesterday.
    execute(tools, name, "--by-duration P18000D", "0")?;
    execute(tools, name, "--by-duration P1D", "10")?;
    let wrong = reset(
        tools,
        name,
        "--topic reset-times --to-datetime tomorrow --execute",
    )?;
    wrong.has(&["Error parsing timestamp."])
}

fn file(tools: &Tools) -> Result<()> {
    let name = "reset-exported";
    tools.create(name, "--partitions 2")?;
    tools.fill_partitions(name, 100)?;
    let answer = reset(
        tools,
        name,
        &format!("--topic {name}:0 --to-earliest --execute"),
    )?;
    is_set(&answer, name, &[("0", "0")])?;
    let exported = reset(
        tools,
        name,
        &format!("--topic {name}:0 --to-current --export --dry-run"),
    )?;
    exported.prints_lines(&["reset-exported,0,0"])?;
    let plan = tools.file("plan.csv", "reset-exported,0,3\nreset-exported,1,2\n")?;
    let plan = format!("--from-file {} --execute", plan.display());
    is_set(&reset(tools, name, &plan)?, name, &[("0", "3"), ("1", "2")])?;
    let described = ask(tools.groups(&format!("--describe --group {name}")))?;
    let mut rows = described.rows(name);
    rows.sort_unstable();
    let offsets: Vec<_> = rows.iter().map(|row| (row[2], row[3])).collect();
    ensure!(offsets == [("0", "3"), ("1", "2")], "{rows:?}");
    Ok(())
}

fn dry_run(tools: &Tools) -> Result<()> {
    let name = "reset-dry";
    fill_two_years(tools, name)?;
    execute(tools, name, "--to-offset 5", "5")?;
    let form = |form: &str| {
        tools.groups(&format!(
            "--reset-offsets --group {name} --topic {name} {form}"
        ))
    };
    let [dry, silent, all] = together([
        form("--to-earliest --dry-run"),
        form("--to-earliest"),
        tools.groups(&format!(
            "--reset-offsets --group {name} --all-topics --to-latest --dry-run"
        )),
    ])?;
    is_set(&dry, name, &[("0", "0")])?;
    silent.has(&["No action will be performed as the --execute option is missing."])?;
    is_set(&all, name, &[("0", "10")])?;
    is_committed(tools, name, "5")
}
