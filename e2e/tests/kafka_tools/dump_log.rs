//! kafka-dump-log on the files of a broker, whose format is Kafka's.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::Case;
use crate::tools::{Answer, Tools, ask, first_file, together};

pub(crate) const CASES: [Case; 3] = [
    ("kafka-dump-log prints batches and records", records),
    ("kafka-dump-log finds the indexes sound", indexes),
    ("kafka-dump-log decodes groups and transactions", decoders),
];

const SEGMENT_BYTES: u32 = 1 << 20;

fn dump(tools: &Tools, file: &Path, args: &[&str]) -> Result<Answer> {
    ask(tools
        .java()
        .dump_log()
        .args(["--files"])
        .args([file])
        .args(args))
}

fn records(tools: &Tools) -> Result<()> {
    tools.create("dumped", "--partitions 1")?;
    let parsed = "--topic dumped --property parse.key=true --property key.separator=:";
    ask(tools.producer(parsed, "k1:v1\nk2:v2\nk3:v3\n")?)?.prints(&[])?;
    let log = first_file(&tools.data().join("dumped-0"), "log")?;
    let dumped = dump(tools, &log, &["--print-data-log"])?;
    dumped.prints(&[
        "Log starting offset: 0",
        "baseOffset: 0 lastOffset: 2 count: 3 baseSequence: 0 lastSequence: 2 producerId: ",
        "partitionLeaderEpoch: 0 isTransactional: false isControl: false",
        "compresscodec: none",
        "isvalid: true",
        "| offset: 1 ",
        "keySize: 2 valueSize: 2 sequence: 1 headerKeys: [] key: k2 payload: v2",
    ])
}

fn indexes(tools: &Tools) -> Result<()> {
    tools.create(
        "indexed",
        &format!("--partitions 1 --config segment.bytes={SEGMENT_BYTES}"),
    )?;
    tools.fill("indexed", 1_500, 1000)?;
    let partition = tools.data().join("indexed-0");
    let [offsets, times] = ["index", "timeindex"].map(|kind| first_file(&partition, kind));
    let (offsets, times) = (offsets?, times?);
    let checked = format!("{},{}", offsets.display(), times.display());
    let of =
        |files: &str, args: &[&str]| tools.java().dump_log().args(["--files", files]).args(args);
    let [sane, verified, entries] = together([
        of(&checked, &["--index-sanity-check"]),
        of(&checked, &["--verify-index-only"]),
        of(&checked, &[]),
    ])?;
    for file in [&offsets, &times] {
        sane.prints(&[&format!("{} passed sanity check.", file.display())])?;
    }
    verified.prints_none_of(&["Mismatches", "not found", "out of order"])?;
    entries.prints(&["offset: ", " position: ", "timestamp: "])?;
    entries.prints_none_of(&["Mismatches", "not found", "out of order"])
}

fn decoders(tools: &Tools) -> Result<()> {
    tools.create("stored", "--partitions 1")?;
    ask(tools.producer("--topic stored", "one\n")?)?.prints(&[])?;
    let read = "--topic stored --group storers --from-beginning --max-messages 1";
    ask(tools.consumer(read))?.prints(&[])?;
    tools
        .transactional()?
        .tool(&["rounds", "stored", "stored", "2"])
        .run()?;
    let logs = |topic: &str| -> Result<String> {
        let mut files = Vec::new();
        for partition in 0..50 {
            let log = first_file(&tools.data().join(format!("{topic}-{partition}")), "log")?;
            if log.metadata()?.len() > 0 {
                files.push(log.display().to_string());
            }
        }
        ensure!(!files.is_empty(), "nothing in {topic}");
        Ok(files.join(","))
    };
    let (groups, transactions) = (logs("__consumer_offsets")?, logs("__transaction_state")?);
    let dump =
        |decoder: &str, files: &str| tools.java().dump_log().args([decoder, "--files", files]);
    let [groups, transactions] = together([
        dump("--offsets-decoder", &groups),
        dump("--transaction-log-decoder", &transactions),
    ])?;
    groups.prints(&[
        r#"{"group":"storers","topic":"stored","partition":0}"#,
        r#"{"group":"storers"}"#,
    ])?;
    transactions.prints(&[r#"{"transactionalId":"stored"}"#])
}
