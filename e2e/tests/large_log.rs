//! A broker with 100 GiB of log that was killed serves again after reading the ends of its segments.
//!
//! The segments are sparse: before its last batch each has a hole, which is no batch. Whoever reads
//! more of a segment than its end finds it damaged.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions, metric};
use klamm_e2e::load::Load;
use klamm_e2e::process::{Signal, is_alive, wait_until};
use klamm_e2e::suite::TIME_LIMIT;

const TOPIC: &str = "large";
const PARTITIONS: usize = 10;
/// Closed segments of each partition; with their size, 100 GiB in all.
const SEGMENTS: usize = 10;
const SEGMENT_BYTES: u64 = 1 << 30;
const MESSAGES_PER_SECOND: &str = "4000";
/// Long enough to stretch the segments meanwhile.
const RESTART_AFTER: &str = "8s";
/// Segments of half a second, recovery points that follow at once, and nobody who reads old records.
const OVERRIDES: [&str; 3] = [
    "log.roll.ms=500",
    "replica.high.watermark.checkpoint.interval.ms=200",
    "klamm.log.scrub.bytes.per.second=0",
];
/// Of a batch's header, as Kafka's documentation has it.
const BATCH_LENGTH_AT: usize = 8;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BYTES_BEFORE_LENGTH_COUNTS: usize = 12;

fn main() -> ExitCode {
    let mut cases = Cases::new("large_log");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start_with(DevOptions {
        nodes: 1,
        overrides: OVERRIDES.map(str::to_owned).into(),
        arguments: ["--restart-after", RESTART_AFTER].map(str::to_owned).into(),
        ..DevOptions::default()
    })?;
    let client = franz_go(&cluster.bootstrap())?;
    client.create_topic(TOPIC, PARTITIONS, 1)?;
    fill(&cluster, &client)?;
    cases.run(
        "a broker that was killed reads only the ends of 100 GiB of segments",
        || killed(&cluster, &client),
    );
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// Produces until every partition has enough closed segments that are known to be durable.
fn fill(cluster: &DevCluster, client: &Program) -> Result<()> {
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    wait_until("every partition has enough segments", TIME_LIMIT, || {
        (0..PARTITIONS).all(|partition| {
            segments(cluster, partition).is_ok_and(|segments| segments.len() > SEGMENTS)
        })
    })?;
    let output = load.stop(Signal::TERM, TIME_LIMIT)?;
    Load::parse(&output.stdout)?;
    wait_until("the closed segments are durable", TIME_LIMIT, || {
        (0..PARTITIONS).all(|partition| is_durable(cluster, partition).unwrap_or(false))
    })
}

fn killed(cluster: &DevCluster, client: &Program) -> Result<()> {
    let pid = cluster.broker_pid(0)?;
    cluster.kill(0)?;
    wait_until("the broker is gone", TIME_LIMIT, || !is_alive(pid))?;
    let is_clean = cluster.data_dir(0).join(".klamm_clean_shutdown").exists();
    ensure!(!is_clean, "it was stopped, not killed");
    let (mut closed, mut active_bytes) = (Vec::new(), 0);
    for partition in 0..PARTITIONS {
        let mut segments = segments(cluster, partition)?;
        let active = segments.pop().context("no segment")?;
        active_bytes += fs::metadata(active)?.len();
        closed.extend(segments);
    }
    for segment in &closed {
        stretch(segment)?;
    }
    ensure!(
        cluster.broker_pid(0)? == pid,
        "the broker was started before its segments were large: make {RESTART_AFTER} longer"
    );

    cluster.wait_until_restarted(0, pid)?;
    let scanned = metric(cluster.http_address(0), "klamm_recovered_bytes_total")?;
    println!(
        "  {} segments of 1 GiB, {scanned} bytes verified",
        closed.len(),
    );
    ensure!(
        scanned <= active_bytes as f64,
        "{scanned} bytes were verified, the last segments have {active_bytes}"
    );
    for segment in &closed {
        let len = fs::metadata(segment)?.len();
        ensure!(
            len == SEGMENT_BYTES,
            "{} has {len} bytes",
            segment.display()
        );
    }
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > PARTITIONS
    })?;
    let output = load.stop(Signal::TERM, TIME_LIMIT)?;
    Load::parse(&output.stdout)?;
    Ok(())
}

/// Makes a closed segment one of a GiB that ends with the same batch, which is the only one that the index
/// knows.
fn stretch(path: &Path) -> Result<()> {
    let bytes = fs::read(path)?;
    let (mut at, mut last) = (0, 0);
    while at < bytes.len() {
        last = at;
        let length = i32::from_be_bytes(field(&bytes, at + BATCH_LENGTH_AT)?);
        at += BYTES_BEFORE_LENGTH_COUNTS + usize::try_from(length)?;
    }
    let batch = &bytes[last..];
    let base: i64 = i64::from_be_bytes(field(batch, 0)?);
    let delta = i32::from_be_bytes(field(batch, LAST_OFFSET_DELTA_AT)?);
    let position = SEGMENT_BYTES - batch.len() as u64;
    let file = File::create(path)?;
    file.write_all_at(batch, position)?;

    let name = path.file_stem().and_then(|name| name.to_str());
    let segment_base: i64 = name.context("no name")?.parse()?;
    let relative = u32::try_from(base + i64::from(delta) - segment_base)?;
    let entry = [
        relative.to_be_bytes(),
        u32::try_from(position)?.to_be_bytes(),
    ];
    fs::write(path.with_extension("index"), entry.concat())?;
    Ok(())
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..at + N).context("the segment is cut off")?;
    Ok(field.try_into()?)
}

/// In order of their offsets.
fn segments(cluster: &DevCluster, partition: usize) -> Result<Vec<PathBuf>> {
    let directory = cluster.data_dir(0).join(format!("{TOPIC}-{partition}"));
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            segments.push(path);
        }
    }
    segments.sort();
    Ok(segments)
}

/// Whether the recovery point has reached the last segment.
fn is_durable(cluster: &DevCluster, partition: usize) -> Result<bool> {
    let segments = segments(cluster, partition)?;
    let active = segments.last().and_then(|path| path.file_stem());
    let base: i64 = active
        .and_then(|name| name.to_str())
        .context("no segment")?
        .parse()?;
    let points = cluster.data_dir(0).join("recovery-point-offset-checkpoint");
    let points = fs::read_to_string(points)?;
    let line = format!("{TOPIC} {partition} ");
    let point = points.lines().find_map(|found| found.strip_prefix(&line));
    let point: i64 = point.context("no recovery point")?.trim().parse()?;
    Ok(point >= base)
}
