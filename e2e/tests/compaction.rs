//! Compacted topics on three brokers: what a consumer reads once they were compacted, and again after a
//! broker was killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Java, KafkaClient as _, Kcat};
use klamm_e2e::dev_cluster::{DevCluster, metric};
use klamm_e2e::process::wait_until;

/// Everything is compacted, soon and often.
const OVERRIDES: [&str; 5] = [
    "log.cleanup.policy=compact",
    "log.segment.bytes=1048576",
    "log.cleaner.min.cleanable.ratio=0.01",
    "log.cleaner.backoff.ms=500",
    "num.partitions=1",
];
const REPLICAS: &str = "default.replication.factor=3";
const TOPIC: &str = "compacted";
const KEYS: u64 = 500;
/// Four segments of each replica, and the active one.
const MESSAGES: u64 = 40_000;
const COMPACTED_LIMIT: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut cases = Cases::new("compaction");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let overrides: Vec<_> = OVERRIDES.into_iter().chain([REPLICAS]).collect();
    let cluster = DevCluster::start(3, &overrides)?;
    let kcat = Kcat::new(&cluster.bootstrap());
    cases.run("compaction: the last message of each key stays", || {
        compact(&cluster, &kcat)
    });
    let java = Java::new(&cluster.bootstrap())?;
    cases.run("compaction: Kafka's consumer reads it, too", || {
        check_java(&java, check_read(&kcat)?)
    });
    cases.run("compaction: a killed broker goes on from there", || {
        let pid = cluster.broker_pid(1)?;
        cluster.kill(1)?;
        cluster.wait_until_restarted(1, pid)?;
        check_read(&Kcat::new(&cluster.client_address(0).to_string())).map(drop)
    });
    cases.run("compaction: messages without keys are refused", || {
        refuse(&kcat)
    });
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

fn compact(cluster: &DevCluster, kcat: &Kcat) -> Result<()> {
    kcat.ensure_topic(TOPIC)?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("messages");
    let mut out = std::io::BufWriter::new(fs::File::create(&file)?);
    for i in 0..MESSAGES {
        writeln!(out, "key-{}\tvalue-{i:0100}", i % KEYS)?;
    }
    out.flush()?;
    drop(out);
    kcat.producer(TOPIC, "none").stdin(&file).run()?;
    wait_until("all replicas are compacted", COMPACTED_LIMIT, || {
        (0..cluster.nodes()).all(|id| {
            let removed = metric(
                cluster.http_address(id),
                "klamm_log_cleaner_removed_bytes_total",
            );
            removed.is_ok_and(|removed| removed > 2_000_000.0)
        })
    })?;
    check_read(kcat).map(drop)
}

/// How many messages are left.
fn check_read(kcat: &Kcat) -> Result<u64> {
    check_messages(&kcat.reader(TOPIC).run()?.stdout)
}

fn check_java(java: &Java, count: u64) -> Result<()> {
    let mut consumer = java
        .tool("consumer.ConsoleConsumer")
        .args(["--topic", TOPIC]);
    consumer = consumer.args(["--partition", "0", "--offset", "earliest"]);
    consumer = consumer.args(["--max-messages", &count.to_string()]);
    for shown in ["print.partition", "print.offset", "print.key"] {
        consumer = consumer.args(["--property", &format!("{shown}=true")]);
    }
    let consumed = check_messages(&consumer.run()?.stdout)?;
    ensure!(consumed == count, "{consumed} messages instead of {count}");
    Ok(())
}

/// Offsets rise, and each key's last message is there. Returns how many messages there are.
fn check_messages(printed: &str) -> Result<u64> {
    let mut last = BTreeMap::new();
    let (mut count, mut next) = (0, 0);
    for line in printed.lines() {
        let mut fields = line.split('\t').skip(1);
        let mut field = || fields.next().with_context(|| format!("line {line:?}"));
        let offset: u64 = field()?.trim_start_matches("Offset:").parse()?;
        ensure!(offset >= next, "offset {offset} after {next}");
        next = offset + 1;
        count += 1;
        last.insert(field()?.to_owned(), field()?.to_owned());
    }
    ensure!(count < MESSAGES / 2, "{count} messages are left");
    for key in 0..KEYS {
        let expected = format!("value-{:0100}", MESSAGES - KEYS + key);
        let found = last.get(&format!("key-{key}"));
        ensure!(found == Some(&expected), "key-{key}: {found:?}");
    }
    Ok(count)
}

fn refuse(kcat: &Kcat) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("messages");
    fs::write(&file, "no key\n")?;
    let refused = kcat
        .tool(&["-P", "-t", TOPIC, "-X", "acks=all"])
        .stdin(&file)
        .run();
    ensure!(refused.is_err(), "a message without a key was accepted");
    Ok(())
}
