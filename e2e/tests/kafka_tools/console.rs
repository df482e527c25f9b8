//! kafka-console-producer and kafka-console-consumer.

use anyhow::{Result, ensure};

use crate::Case;
use crate::tools::{Tools, ask, together};

pub(crate) const CASES: [Case; 7] = [
    (
        "console tools carry keys, headers and nulls",
        keys_and_headers,
    ),
    ("console consumer goes on where its group was", group),
    (
        "console consumer reads one partition from an offset",
        offset,
    ),
    ("console consumer reads all topics of a pattern", pattern),
    ("console consumer ends when nothing comes", nothing),
    (
        "console producer is told that a record is too large",
        too_large,
    ),
    (
        "console consumer decodes __consumer_offsets",
        committed_offsets,
    ),
];

const PARSED: &str = "--property parse.key=true --property key.separator=: ";

fn keys_and_headers(tools: &Tools) -> Result<()> {
    tools.create("headers", "--partitions 1")?;
    let parsed = "--topic headers --property parse.key=true --property parse.headers=true \
                  --property headers.delimiter=| --property key.separator=| --property null.marker=NULL";
    let lines = "h1:a,h2:b|k1|v1\nNULL|NULL|v2\nh3:c|k3|NULL\n";
    ask(tools.producer(parsed, lines)?)?.prints(&[])?;
    let shown = "--topic headers --from-beginning --max-messages 3 --property print.key=true \
                 --property print.headers=true --property print.partition=true --property print.offset=true";
    let read = ask(tools.consumer(shown))?;
    read.prints_lines(&[
        "Partition:0\tOffset:0\th1:a,h2:b\tk1\tv1",
        "Partition:0\tOffset:1\tNO_HEADERS\tnull\tv2",
        "Partition:0\tOffset:2\th3:c\tk3\tnull",
    ])?;
    read.prints(&["Processed a total of 3 messages"])
}

fn group(tools: &Tools) -> Result<()> {
    tools.create("resumed", "--partitions 1")?;
    let send = |lines: &str| -> Result<()> {
        let producer = tools.producer(&format!("--topic resumed --sync {PARSED}"), lines)?;
        ask(producer)?.prints(&[])
    };
    let read = || {
        ask(tools.consumer("--topic resumed --group resumers --from-beginning --max-messages 2"))
    };
    send("a:1\nb:2\n")?;
    read()?.prints_lines(&["1", "2"])?;
    send("c:3\nd:4\n")?;
    read()?.prints_lines(&["3", "4"])?;
    let rows = ask(tools.groups("--describe --group resumers"))?;
    let rows = rows.rows("resumers");
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let row = rows.first().and_then(|row| row.get(1..6));
    ensure!(
        row == Some(&["resumed", "0", "4", "4", "0"][..]),
        "{rows:?}"
    );
    Ok(())
}

fn offset(tools: &Tools) -> Result<()> {
    tools.create("placed", "--partitions 1")?;
    let lines: String = (0..10).map(|number| format!("{number}\n")).collect();
    ask(tools.producer("--topic placed --compression-codec zstd", &lines)?)?.prints(&[])?;
    let from = |offset: &str, count: u8| {
        tools.consumer(&format!(
            "--topic placed --partition 0 --offset {offset} --max-messages {count} \
             --property print.offset=true"
        ))
    };
    let [middle, earliest, committed] = together([
        from("7", 2),
        from("earliest", 1),
        from("9", 1).args(["--isolation-level", "read_committed"]),
    ])?;
    middle.prints_lines(&["Offset:7\t7", "Offset:8\t8"])?;
    earliest.prints_lines(&["Offset:0\t0"])?;
    committed.prints_lines(&["Offset:9\t9"])
}

fn pattern(tools: &Tools) -> Result<()> {
    for topic in ["many-1", "many-2", "few-1"] {
        tools.create(topic, "--partitions 1")?;
        let sent = tools.producer(&format!("--topic {topic}"), &format!("in {topic}\n"))?;
        ask(sent)?.prints(&[])?;
    }
    let read = "--include many-.* --from-beginning --max-messages 2 --timeout-ms 30000";
    ask(tools.consumer(read))?.prints_lines(&["in many-1", "in many-2"])
}

fn nothing(tools: &Tools) -> Result<()> {
    tools.create("silent", "--partitions 1")?;
    let [empty, both] = together([
        tools.consumer("--topic silent --from-beginning --timeout-ms 1500"),
        tools.consumer("--topic silent --partition 0 --group g"),
    ])?;
    empty.prints_nothing()?;
    empty.has(&["Processed a total of 0 messages"])?;
    both.fails(&["group"])
}

fn too_large(tools: &Tools) -> Result<()> {
    tools.create("small", "--partitions 1 --config max.message.bytes=1000")?;
    let large = format!("{}\n", "x".repeat(3000));
    ask(tools.producer("--topic small --sync", &large)?)?.fails(&["RecordTooLargeException"])?;
    ask(tools.producer("--topic small --sync", "fits\n")?)?.prints(&[])?;
    ask(tools.consumer("--topic small --from-beginning --max-messages 1"))?.prints_lines(&["fits"])
}

/// Groups are kept in Kafka's own format.
fn committed_offsets(tools: &Tools) -> Result<()> {
    tools.create("decoded", "--partitions 1")?;
    ask(tools.producer("--topic decoded", "one\ntwo\n")?)?.prints(&[])?;
    let read = "--topic decoded --group decoders --from-beginning --max-messages 2";
    ask(tools.consumer(read))?.prints(&[])?;
    let formatted = "--topic __consumer_offsets --from-beginning --timeout-ms 5000 --formatter \
                     org.apache.kafka.tools.consumer";
    let [offsets, groups] = together([
        tools.consumer(&format!("{formatted}.OffsetsMessageFormatter")),
        tools.consumer(&format!("{formatted}.GroupMetadataMessageFormatter")),
    ])?;
    offsets.prints(&[
        r#"{"group":"decoders","topic":"decoded","partition":0}},"value":{"version":"#,
        r#""data":{"offset":2,"#,
    ])?;
    groups.prints(&[
        r#""data":{"group":"decoders"}},"value":{"version":"#,
        r#""protocolType":"consumer""#,
    ])
}
