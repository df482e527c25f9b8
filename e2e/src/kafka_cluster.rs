//! Apache Kafka on this machine, to be compared with: three nodes, each broker and controller, on
//! loopback, with its defaults but for replication.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cache::{built, client_sources};
use crate::process::{Signal, wait_until};
use crate::tool::{Running, Tool, last_lines};

/// Nodes of the cluster; ids begin at 0.
pub const NODES: u16 = 3;
/// Where the search for free ports begins.
const FIRST_PORT: u16 = 13_000;
const PORT_STEP: u16 = 10;
const CLUSTER_ID: &str = "a2xhbW1rYWZrYWNvbXBhcg";
const FETCH_LIMIT: Duration = Duration::from_secs(600);
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// The collector settings of Kafka's own start script.
const JVM: [&str; 7] = [
    "-Xms512m",
    "-Xmx512m",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// A cluster; ends, with its data, when it is dropped.
#[derive(Debug)]
pub struct KafkaCluster {
    classpath: String,
    port: u16,
    nodes: Vec<Option<Running>>,
    data: TempDir,
}

impl KafkaCluster {
    /// Resolves the jars, formats the storage, and starts all nodes.
    ///
    /// # Errors
    /// When Maven can't, or a node does not start.
    pub fn start(overrides: &[&str]) -> Result<Self> {
        let mut cluster = Self {
            classpath: classpath()?,
            port: free_port()?,
            nodes: (0..NODES).map(|_| None).collect(),
            data: tempfile::Builder::new().prefix("klamm-kafka-").tempdir()?,
        };
        for id in 0..NODES {
            cluster.format(id, overrides)?;
        }
        for id in 0..NODES {
            cluster.start_node(id)?;
        }
        for id in 0..NODES {
            cluster.wait_until_started(id)?;
        }
        Ok(cluster)
    }

    /// The addresses of all brokers, as clients take them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = (0..NODES)
            .map(|id| format!("127.0.0.1:{}", self.port + id))
            .collect();
        addresses.join(",")
    }

    /// The process of a node.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, id: u16) -> Result<u32> {
        let node = self.nodes.get(usize::from(id)).and_then(Option::as_ref);
        node.map(Running::pid)
            .with_context(|| format!("node {id} does not run"))
    }

    /// Starts a node that was killed, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn restart(&mut self, id: u16) -> Result<()> {
        self.start_node(id)?;
        self.wait_until_started(id)
    }

    fn dir(&self, id: u16) -> PathBuf {
        self.data.path().join(format!("node-{id}"))
    }

    fn format(&self, id: u16, overrides: &[&str]) -> Result<()> {
        let dir = self.dir(id);
        fs::create_dir_all(&dir)?;
        let controller = self.port + NODES + id;
        let voters: Vec<_> = (0..NODES)
            .map(|voter| format!("{voter}@127.0.0.1:{}", self.port + NODES + voter))
            .collect();
        let mut properties = vec![
            "process.roles=broker,controller".to_owned(),
            format!("node.id={id}"),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{},CONTROLLER://127.0.0.1:{controller}",
                self.port + id
            ),
            "controller.listener.names=CONTROLLER".to_owned(),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            format!("log.dirs={}", dir.join("data").display()),
            format!("default.replication.factor={NODES}"),
            "min.insync.replicas=2".to_owned(),
            format!("offsets.topic.replication.factor={NODES}"),
        ];
        properties.extend(overrides.iter().map(|&text| text.to_owned()));
        fs::write(dir.join("server.properties"), properties.join("\n"))?;
        self.java("kafka.tools.StorageTool", id)
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .args([dir.join("server.properties")])
            .time_limit(FORMAT_LIMIT)
            .run()?;
        Ok(())
    }

    fn start_node(&mut self, id: u16) -> Result<()> {
        let node = self
            .java("kafka.Kafka", id)
            .args([self.dir(id).join("server.properties")]);
        self.nodes[usize::from(id)] = Some(node.spawn()?);
        Ok(())
    }

    fn wait_until_started(&self, id: u16) -> Result<()> {
        let node = self.nodes[usize::from(id)].as_ref();
        let started = || node.is_some_and(|node| node.stdout().contains("Kafka Server started"));
        wait_until(&format!("node {id} of Kafka serves"), START_LIMIT, started)
            .with_context(|| node.map_or_else(String::new, |node| last_lines(&node.stdout(), 30)))
    }

    fn java(&self, class: &str, id: u16) -> Tool {
        let logging = client_sources("kafka").join("log4j2.properties");
        Tool::new("java")
            .args(JVM)
            .args([format!("-Dlog4j2.configurationFile={}", logging.display())])
            .args(["-cp", &self.classpath, class])
            .directory(&self.dir(id))
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        for node in self.nodes.iter_mut().flatten() {
            if !node.has_ended() {
                // What does not stop is killed when it is dropped.
                let _ = node.stop(Signal::KILL, STOP_LIMIT);
            }
        }
    }
}

fn classpath() -> Result<String> {
    let pom = client_sources("kafka").join("pom.xml");
    let directory = built("kafka", std::slice::from_ref(&pom), |directory| {
        resolve(&pom, &directory.join("classpath"))
    })?;
    let file = directory.join("classpath");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    Ok(text.trim().to_owned())
}

fn resolve(pom: &Path, file: &Path) -> Result<()> {
    Tool::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .args([pom])
        .args(["dependency:build-classpath"])
        .args([format!("-Dmdep.outputFile={}", file.display())])
        .time_limit(FETCH_LIMIT)
        .run()?;
    Ok(())
}

fn free_port() -> Result<u16> {
    let is_free = |port| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok();
    (FIRST_PORT..20_000)
        .step_by(usize::from(PORT_STEP))
        .find(|first| (0..2 * NODES).all(|offset| is_free(first + offset)))
        .context("no free ports for Kafka")
}
