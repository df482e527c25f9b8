//! One workload on one cluster.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::client::Java;
use klamm_e2e::tool::Tool;

use crate::figure::Measured;
use crate::system::System;
use crate::workload::{Load, Workload};

/// The environment variable with the path of `klamm-bench`.
const GENERATOR_BIN: &str = "KLAMM_BENCH_BIN";
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// The load generator.
pub(crate) struct Generator {
    program: PathBuf,
}

impl Generator {
    pub(crate) fn from_environment() -> Result<Self> {
        let program = std::env::var_os(GENERATOR_BIN).map(PathBuf::from);
        let program = program.filter(|program| program.is_file());
        Ok(Self {
            program: program.with_context(|| {
                format!("{GENERATOR_BIN} names no file; use `cargo xtask bench`")
            })?,
        })
    }

    fn run(&self, command: &str, args: &[String]) -> Result<Measured> {
        let output = Tool::new(&self.program)
            .args([command])
            .args(args)
            .time_limit(TIME_LIMIT)
            .run()?;
        match output.stdout.trim() {
            "" => Ok(Measured::new()),
            json => Ok(serde_json::from_str(json)?),
        }
    }

    pub(crate) fn limits(&self) -> Result<Measured> {
        let directory = std::env::temp_dir().display().to_string();
        self.run("limits", &["--directory".to_owned(), directory])
    }

    pub(crate) fn measure(&self, system: &System, workload: &Workload) -> Result<Measured> {
        self.try_measure(system, workload)
            .with_context(|| format!("workload {}", workload.name))
    }

    fn try_measure(&self, system: &System, workload: &Workload) -> Result<Measured> {
        let at = vec![
            format!("--bootstrap={}", system.bootstrap()),
            format!("--topic={}", workload.name),
        ];
        let topic = with(&at, workload.topic);
        if let Load::FirstProduce = workload.load {
            let first = self.run("first-produce", &topic)?;
            let first = first.get("seconds").context("no seconds")?;
            let seconds = system.started_in.as_secs_f64() + first;
            return Ok(Measured::from([("start_seconds".to_owned(), seconds)]));
        }
        self.run("create-topic", &topic)?;
        let pids = format!("--pids={}", system.pids()?);
        let measured = match &workload.load {
            Load::FirstProduce => unreachable!("returned above"),
            Load::Idle(args) => self.run("idle", &with(&with(&at, args), &[&pids]))?,
            Load::Group(args) => self.run("group", &with(&with(&at, args), &[&pids]))?,
            Load::OffsetsFailover(args) => {
                // One of the brokers is dead then.
                return self.run("offsets-failover", &with(&with(&at, args), &[&pids]));
            }
            Load::Produce(args) => self.run("produce", &with(&with(&at, args), &[&pids]))?,
            Load::Consume { fill, consume } => {
                self.run("produce", &with(&at, fill))?;
                self.run("consume", &with(&with(&at, consume), &[&pids]))?
            }
            Load::JavaProducer(args) => java_producer(system, workload.name, args)?,
        };
        self.run("delete-topic", &at)?;
        Ok(measured)
    }
}

fn with(args: &[String], more: &[&str]) -> Vec<String> {
    let more = more.iter().map(|&arg| arg.to_owned());
    args.iter().cloned().chain(more).collect()
}

/// `kafka-producer-perf-test`, its own start excluded.
fn java_producer(system: &System, topic: &str, args: &[&str]) -> Result<Measured> {
    let bootstrap = system.bootstrap();
    let java = Java::new(&bootstrap)?;
    let args = args.iter().flat_map(|arg| arg.split('='));
    let start = Instant::now();
    let output = Tool::new("java")
        .args(["-Xmx512m", "-cp", java.classpath()])
        .args(["org.apache.kafka.tools.ProducerPerformance"])
        .args(["--topic", topic, "--throughput", "-1"])
        .args(args)
        .args(["--producer-props", "acks=all", "linger.ms=5"])
        .args([format!("bootstrap.servers={bootstrap}")])
        .time_limit(TIME_LIMIT)
        .run()?;
    // 300000 records sent, 54321.0 records/sec (53.05 MB/sec), ...
    let summary = output.stdout.lines().last().context("nothing printed")?;
    let rate = summary
        .split(", ")
        .find_map(|part| part.split_once(" records/sec"))
        .and_then(|(rate, _)| rate.trim().parse::<f64>().ok());
    let rate = rate.with_context(|| format!("no rate in {summary:?}"))?;
    ensure!(rate > 0.0, "{summary}");
    let seconds = start.elapsed().as_secs_f64();
    Ok(Measured::from([
        ("seconds".to_owned(), seconds),
        ("records".to_owned(), rate * seconds),
    ]))
}
