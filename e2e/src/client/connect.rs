//! Kafka Connect's workers with the connectors for files, and their REST API.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::jvm::java;
use crate::cache::client_sources;
use crate::maven::{classpath, kafka_version};
use crate::process::{Signal, wait_until};
use crate::tool::Running;

const HEAP_MIB: u32 = 256;
/// A worker creates topics, joins its group and finds its plugins first.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// A worker that rebalances answers late.
const REST_LIMIT: Duration = Duration::from_secs(90);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Connect against one cluster.
#[derive(Debug)]
pub struct Connect {
    classpath: String,
    bootstrap: String,
}

/// A connector that reads or writes a file, by its configuration.
#[must_use]
pub fn file_connector(direction: &str, file: &Path, topic: &str) -> Value {
    let topics = if direction == "Source" {
        "topic"
    } else {
        "topics"
    };
    json!({
        "connector.class": format!("org.apache.kafka.connect.file.FileStream{direction}Connector"),
        "tasks.max": "1",
        "file": file,
        topics: topic,
    })
}

impl Connect {
    /// Resolves the jars, which takes a network the first time.
    ///
    /// # Errors
    /// When Maven can't.
    pub fn new(bootstrap: &str) -> Result<Self> {
        Ok(Self {
            classpath: classpath("connect", &pom())?,
            bootstrap: bootstrap.to_owned(),
        })
    }

    /// The version of Connect.
    ///
    /// # Errors
    /// When the file that pins it can't be read.
    pub fn version() -> Result<String> {
        kafka_version(&pom())
    }

    /// Starts a worker of its own with these connectors; it keeps offsets in a file of the directory.
    ///
    /// # Errors
    /// When it does not serve in time.
    pub fn standalone(&self, directory: &Path, connectors: &[(&str, Value)]) -> Result<Worker> {
        let offsets = directory.join("offsets");
        let mut files = Vec::new();
        for (name, config) in connectors {
            let file = directory.join(format!("{name}.properties"));
            std::fs::write(&file, properties(name, config))?;
            files.push(file);
        }
        let settings = [(
            "offset.storage.file.filename",
            offsets.display().to_string(),
        )];
        self.start(directory, "ConnectStandalone", &settings, &files)
    }

    /// Starts a worker of the group, with sources that write exactly once.
    ///
    /// # Errors
    /// As [`Self::standalone`].
    pub fn distributed(&self, directory: &Path, group: &str) -> Result<Worker> {
        let topic = |what: &str| format!("{group}-{what}");
        let settings = [
            ("group.id", group.to_owned()),
            ("config.storage.topic", topic("configs")),
            ("offset.storage.topic", topic("offsets")),
            ("status.storage.topic", topic("status")),
            ("offset.storage.partitions", "3".to_owned()),
            ("exactly.once.source.support", "enabled".to_owned()),
            // A worker that was killed is missed soon.
            ("session.timeout.ms", "10000".to_owned()),
            ("scheduled.rebalance.max.delay.ms", "1000".to_owned()),
        ];
        self.start(directory, "ConnectDistributed", &settings, &[])
    }

    fn start(
        &self,
        directory: &Path,
        class: &str,
        settings: &[(&str, String)],
        connectors: &[PathBuf],
    ) -> Result<Worker> {
        let address = free_address()?;
        let string = "org.apache.kafka.connect.storage.StringConverter";
        let mut lines = vec![
            format!("bootstrap.servers={}", self.bootstrap),
            format!("key.converter={string}"),
            format!("value.converter={string}"),
            format!("listeners=http://{address}"),
            "offset.flush.interval.ms=1000".to_owned(),
            // Sinks do not write what is aborted.
            "consumer.isolation.level=read_committed".to_owned(),
        ];
        lines.extend(settings.iter().map(|(key, value)| format!("{key}={value}")));
        let file = directory.join("worker.properties");
        std::fs::write(&file, lines.join("\n"))?;
        let class = format!("org.apache.kafka.connect.cli.{class}");
        let running = java(HEAP_MIB, &self.classpath, &class)
            .args([&file])
            .args(connectors)
            .spawn()?;
        let mut worker = Worker { running, address };
        worker.wait_until_serving()?;
        Ok(worker)
    }
}

fn pom() -> PathBuf {
    client_sources("connect").join("pom.xml")
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    Ok(listener.local_addr()?)
}

fn properties(name: &str, config: &Value) -> String {
    let entries = config.as_object().into_iter().flatten();
    let lines = entries.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    lines
        .chain([format!("name={name}")])
        .collect::<Vec<_>>()
        .join("\n")
}

/// A worker that runs; it is killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    running: Running,
    address: SocketAddr,
}

impl Worker {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it printed to stderr, for a failed test.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    fn wait_until_serving(&mut self) -> Result<()> {
        let address = self.address;
        self.running
            .wait_for("the worker serves", START_LIMIT, |_| {
                exchange(address, "GET", "/connectors", None).is_ok_and(|(status, _)| status == 200)
            })
    }

    /// Has it stop as Ctrl-C does.
    ///
    /// # Errors
    /// When it does not in time, or fails.
    pub fn stop(mut self) -> Result<()> {
        self.running.stop(Signal::TERM, STOP_LIMIT).map(drop)
    }

    /// One request to the REST API: the answer's status and body.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        exchange(self.address, method, path, body)
    }

    /// As [`Self::request`], for what has to succeed; again while the worker rebalances.
    ///
    /// # Errors
    /// When it does not within a minute and a half.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut answer = None;
        wait_until("the worker has balanced", REST_LIMIT, || {
            answer = Some(self.request(method, path, body));
            !matches!(answer, Some(Ok((409, _))))
        })?;
        let (status, answer) = answer.context("no answer")??;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: {status} {answer}"
        );
        Ok(answer)
    }

    /// Waits until the connector and its one task are in the state.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn wait_for_state(&self, connector: &str, state: &str) -> Result<()> {
        let path = format!("/connectors/{connector}/status");
        let mut last = String::new();
        wait_until(&format!("{connector} is {state}"), REST_LIMIT, || {
            let Ok((_, status)) = self.request("GET", &path, None) else {
                return false;
            };
            last = status.to_string();
            let tasks = status["tasks"].as_array().map_or(&[][..], Vec::as_slice);
            status["connector"]["state"] == state
                && tasks.len() == 1
                && tasks.iter().all(|task| task["state"] == state)
        })
        .with_context(|| last)
    }
}

/// HTTP 1.0, which has no chunks.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect_timeout(&address, REST_LIMIT)?;
    stream.set_read_timeout(Some(REST_LIMIT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    Ok((status.context("no HTTP status")?, body))
}
