//! Kafka Connect: files are copied through topics by a worker of its own, and by workers of a group
//! with sources that write exactly once.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Connect, Kcat, Program, Worker, file_connector, franz_go};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::messages::parse;
use klamm_e2e::process::{Signal, send_signal, wait_until};
use klamm_e2e::suite::{self, TIME_LIMIT};
use klamm_e2e::tool::last_lines;
use serde_json::json;
use tempfile::TempDir;

const GROUP: &str = "connect";
const TOPIC: &str = "connect-lines";
const SOURCE: &str = "source";
const SINK: &str = "sink";
/// Added in each step.
const LINES: u64 = 3_000;
const KILLED: u16 = 1;
/// A task that a killed worker left is fenced, and its transaction aborted, first.
const COPY_LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    suite::run_target("connect", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    cases.client("connect", Connect::version()?);
    let bootstrap = cluster.bootstrap();
    let client = franz_go(&bootstrap)?;
    let connect = Connect::new(&bootstrap)?;
    cases.run("connect: a standalone worker copies a file", || {
        standalone(&connect, &client)
    });
    let mut group = Group::prepare(connect, client, Kcat::new(&bootstrap))?;
    cases.run("connect: connectors and tasks are RUNNING by REST", || {
        group.start_connectors()
    });
    cases.run("connect: every line once at the sink", || group.copy());
    cases.run(
        "connect: a worker restarts in the middle, every line once at the sink",
        || group.restart(),
    );
    cases.run("connect: paused, stopped and resumed by REST", || {
        group.pause()
    });
    cases.run(
        "connect: a broker is killed, every line once in the topic",
        || group.kill_broker(cluster),
    );
    cases.run(
        "connect: a worker is killed, every line once in the topic",
        || group.kill_worker(),
    );
    cases.run(
        "connect: offsets and connectors are deleted by REST",
        || group.delete(),
    );
    if cases.any_failed()
        && let Some(worker) = &group.worker
    {
        println!("--- the end of what the worker printed:");
        println!("{}", last_lines(&worker.stderr(), 60));
    }
    Ok(())
}

fn lines(numbers: Range<u64>) -> String {
    numbers.map(|number| format!("line {number}\n")).collect()
}

fn standalone(connect: &Connect, client: &Program) -> Result<()> {
    let topic = "connect-standalone";
    client.create_topic(topic, 1, 3)?;
    let directory = tempfile::tempdir()?;
    let (read, written) = (
        directory.path().join("read"),
        directory.path().join("written"),
    );
    fs::write(&read, lines(0..LINES))?;
    let connectors = [
        ("alone-source", file_connector("Source", &read, topic)),
        ("alone-sink", file_connector("Sink", &written, topic)),
    ];
    let copied = |count| {
        let done = || fs::read_to_string(&written).is_ok_and(|text| text == lines(0..count));
        wait_until("the file is copied", COPY_LIMIT, done)
    };
    let worker = connect.standalone(directory.path(), &connectors)?;
    for (name, _) in &connectors {
        worker.wait_for_state(name, "RUNNING")?;
    }
    copied(LINES)?;
    worker.stop()?;
    let mut file = OpenOptions::new().append(true).open(&read)?;
    file.write_all(lines(LINES..2 * LINES).as_bytes())?;
    let worker = connect.standalone(directory.path(), &connectors)?;
    copied(2 * LINES)?;
    worker.stop()
}

/// Workers of a group that copy a file through a topic.
struct Group {
    connect: Connect,
    kcat: Kcat,
    directory: TempDir,
    file: File,
    worker: Option<Worker>,
    lines: u64,
}

impl Group {
    fn prepare(connect: Connect, client: Program, kcat: Kcat) -> Result<Self> {
        client.create_topic(TOPIC, 1, 3)?;
        let directory = tempfile::tempdir()?;
        let file = File::create(directory.path().join("read"))?;
        Ok(Self {
            connect,
            kcat,
            directory,
            file,
            worker: None,
            lines: 0,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn worker(&self) -> Result<&Worker> {
        self.worker.as_ref().context("no worker runs")
    }

    fn start_worker(&mut self) -> Result<()> {
        let worker = self.connect.distributed(self.directory.path(), GROUP)?;
        self.worker = Some(worker);
        Ok(())
    }

    fn start_connectors(&mut self) -> Result<()> {
        self.start_worker()?;
        let source = file_connector("Source", &self.path("read"), TOPIC);
        let sink = file_connector("Sink", &self.path("written"), TOPIC);
        let worker = self.worker()?;
        let missing = worker.request("GET", "/connectors/source", None)?.0;
        ensure!(missing == 404, "{missing} before it is created");
        for (name, config) in [(SOURCE, source), (SINK, sink)] {
            worker.call("PUT", &format!("/connectors/{name}/config"), Some(&config))?;
        }
        self.wait_until_running()?;
        let names = self.worker()?.call("GET", "/connectors", None)?;
        let mut names: Vec<_> = names.as_array().context("no list")?.iter().collect();
        names.sort_by_key(|name| name.to_string());
        ensure!(names == [SINK, SOURCE], "{names:?}");
        Ok(())
    }

    fn wait_until_running(&self) -> Result<()> {
        self.worker()?.wait_for_state(SOURCE, "RUNNING")?;
        self.worker()?.wait_for_state(SINK, "RUNNING")
    }

    fn append(&mut self) -> Result<()> {
        let end = self.lines + LINES;
        self.file.write_all(lines(self.lines..end).as_bytes())?;
        self.lines = end;
        Ok(())
    }

    /// Returns once the sink has begun with what was appended last, or is through.
    fn wait_until_moving(&self) -> Result<()> {
        let begun = self.lines - LINES;
        wait_until("the sink goes on", COPY_LIMIT, || self.written() > begun)
    }

    fn written(&self) -> u64 {
        let text = fs::read_to_string(self.path("written")).unwrap_or_default();
        text.lines().count() as u64
    }

    fn copy(&mut self) -> Result<()> {
        self.append()?;
        self.check_sink()?;
        self.check_topic()
    }

    /// Each line is there once, and in order.
    fn check_sink(&self) -> Result<()> {
        let expected = lines(0..self.lines);
        wait_until("the sink has every line", COPY_LIMIT, || {
            self.written() >= self.lines
        })
        .with_context(|| format!("{} of {} lines", self.written(), self.lines))?;
        let text = fs::read_to_string(self.path("written"))?;
        ensure!(text == expected, "the sink repeats or misses lines");
        Ok(())
    }

    /// The same for what is committed in the topic.
    fn check_topic(&self) -> Result<()> {
        let mut read = Vec::new();
        let arrived = wait_until("the topic has every line", COPY_LIMIT, || {
            let reader = self.kcat.reader(TOPIC);
            let reader = reader.args(["-X", "isolation.level=read_committed"]);
            let printed = reader.run().and_then(|output| parse(&output.stdout));
            printed.is_ok_and(|messages| {
                read = messages;
                read.len() as u64 >= self.lines
            })
        });
        arrived.with_context(|| format!("{} of {} lines", read.len(), self.lines))?;
        let read: String = read.iter().map(|it| it.value.clone() + "\n").collect();
        ensure!(
            read == lines(0..self.lines),
            "the topic repeats or misses lines"
        );
        Ok(())
    }

    /// Each line is at the sink, some perhaps twice: it writes before it commits offsets.
    fn check_sink_at_least_once(&self) -> Result<()> {
        wait_until("the sink has every line", COPY_LIMIT, || {
            let text = fs::read_to_string(self.path("written")).unwrap_or_default();
            let mut seen: Vec<_> = text.lines().collect();
            seen.sort_unstable();
            seen.dedup();
            seen.len() as u64 == self.lines
        })
    }

    fn restart(&mut self) -> Result<()> {
        self.append()?;
        self.wait_until_moving()?;
        self.append()?;
        self.worker.take().context("no worker runs")?.stop()?;
        self.append()?;
        self.start_worker()?;
        self.wait_until_running()?;
        self.append()?;
        self.check_sink()?;
        self.check_topic()
    }

    fn pause(&mut self) -> Result<()> {
        let worker = self.worker()?;
        worker.call("PUT", "/connectors/sink/pause", None)?;
        worker.wait_for_state(SINK, "PAUSED")?;
        let written = self.written();
        self.append()?;
        self.check_topic()?;
        ensure!(self.written() == written, "a paused sink writes");
        let worker = self.worker()?;
        worker.call("PUT", "/connectors/sink/resume", None)?;
        worker.wait_for_state(SINK, "RUNNING")?;
        worker.call("POST", "/connectors/source/restart?includeTasks=true", None)?;
        worker.wait_for_state(SOURCE, "RUNNING")?;
        self.check_sink()
    }

    fn kill_broker(&mut self, cluster: &mut Cluster) -> Result<()> {
        self.append()?;
        self.wait_until_moving()?;
        self.append()?;
        cluster.kill_and_restart(KILLED)?;
        self.append()?;
        self.check_topic()?;
        self.check_sink_at_least_once()?;
        self.wait_until_running()
    }

    fn kill_worker(&mut self) -> Result<()> {
        self.append()?;
        self.wait_until_moving()?;
        self.append()?;
        let worker = self.worker.take().context("no worker runs")?;
        send_signal(worker.pid(), Signal::KILL)?;
        drop(worker);
        self.append()?;
        self.start_worker()?;
        self.wait_until_running()?;
        self.append()?;
        self.check_topic()?;
        self.check_sink_at_least_once()
    }

    fn delete(&mut self) -> Result<()> {
        let worker = self.worker()?;
        wait_until("the sink commits what it has written", TIME_LIMIT, || {
            let offsets = worker.request("GET", "/connectors/sink/offsets", None);
            offsets.is_ok_and(|(_, told)| {
                let offset = &told["offsets"][0]["offset"]["kafka_offset"];
                // Markers of transactions have offsets, too.
                offset.as_u64() >= Some(self.lines)
            })
        })?;
        worker.call("PUT", "/connectors/source/stop", None)?;
        wait_until("the source has no task", TIME_LIMIT, || {
            let status = worker.request("GET", "/connectors/source/status", None);
            status.is_ok_and(|(_, status)| {
                status["connector"]["state"] == "STOPPED" && status["tasks"] == json!([])
            })
        })?;
        worker.call("DELETE", "/connectors/source/offsets", None)?;
        let offsets = worker.call("GET", "/connectors/source/offsets", None)?;
        ensure!(offsets["offsets"] == json!([]), "{offsets}");
        for name in [SOURCE, SINK] {
            worker.call("DELETE", &format!("/connectors/{name}"), None)?;
        }
        wait_until("no connector is left", TIME_LIMIT, || {
            let names = worker.request("GET", "/connectors", None);
            names.is_ok_and(|(_, names)| names == json!([]))
        })?;
        self.worker.take().context("no worker runs")?.stop()
    }
}
