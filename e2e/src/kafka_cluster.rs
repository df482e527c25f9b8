//! Apache Kafka on this machine, to be compared with: nodes that are broker and controller, on
//! loopback, with its defaults but for replication.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::cache::client_sources;
use crate::maven::{classpath, kafka_version};
use crate::process::{Signal, wait_until};
use crate::tool::{Running, Tool, last_lines};

/// Nodes of a cluster, and their heap, unless told otherwise.
const NODES: u16 = 3;
const HEAP_MIB: u32 = 512;
/// Where the search for free ports begins.
const FIRST_PORT: u16 = 13_000;
const PORT_STEP: u16 = 10;
const CLUSTER_ID: &str = "a2xhbW1rYWZrYWNvbXBhcg";
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LOG_EXCERPT_LINES: usize = 60;
/// The collector settings of Kafka's own start script.
const JVM: [&str; 5] = [
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];

/// How to start a cluster.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// Ids begin at 0
    pub nodes: u16,
    /// Configuration, `key=value` each
    pub overrides: Vec<String>,
    /// Of each node
    pub heap_mib: u32,
}

/// A cluster; ends, with its data, when it is dropped.
#[derive(Debug)]
pub struct KafkaCluster {
    classpath: String,
    port: u16,
    heap_mib: u32,
    nodes: Vec<Option<Running>>,
    started_in: Duration,
    data: TempDir,
}

impl KafkaCluster {
    /// Starts three nodes.
    ///
    /// # Errors
    /// As [`Self::start_with`].
    pub fn start(overrides: &[&str]) -> Result<Self> {
        Self::start_with(&KafkaOptions {
            nodes: NODES,
            overrides: overrides.iter().map(|&text| text.to_owned()).collect(),
            heap_mib: HEAP_MIB,
        })
    }

    /// Resolves the jars, formats the storage, and starts all nodes.
    ///
    /// # Errors
    /// When Maven can't, or a node does not start.
    pub fn start_with(options: &KafkaOptions) -> Result<Self> {
        let nodes = options.nodes;
        let mut cluster = Self {
            classpath: classpath("kafka", &pom())?,
            port: free_port(nodes)?,
            heap_mib: options.heap_mib,
            nodes: (0..nodes).map(|_| None).collect(),
            started_in: Duration::ZERO,
            data: tempfile::Builder::new().prefix("klamm-kafka-").tempdir()?,
        };
        for id in 0..nodes {
            cluster.format(id, &options.overrides)?;
        }
        let start = Instant::now();
        for id in 0..nodes {
            cluster.start_node(id)?;
        }
        for id in 0..nodes {
            cluster.wait_until_started(id)?;
        }
        cluster.started_in = start.elapsed();
        Ok(cluster)
    }

    /// How long the nodes took from the start of the first until all served; formatting excluded.
    #[must_use]
    pub const fn started_in(&self) -> Duration {
        self.started_in
    }

    fn node_count(&self) -> u16 {
        self.nodes.len() as u16
    }

    /// The addresses of all brokers, as clients take them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = (0..self.node_count())
            .map(|id| self.client_address(id).to_string())
            .collect();
        addresses.join(",")
    }

    #[must_use]
    pub fn client_address(&self, id: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + id))
    }

    /// Prints the ends of what the nodes printed, for a failed test.
    pub fn print_logs(&self) {
        for (id, node) in self.nodes.iter().enumerate() {
            let text = node.as_ref().map(Running::stdout).unwrap_or_default();
            println!("--- the end of what node {id} of Kafka printed:");
            println!("{}", last_lines(&text, LOG_EXCERPT_LINES));
        }
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

    /// Where a node keeps its logs.
    #[must_use]
    pub fn data_dir(&self, id: u16) -> PathBuf {
        self.dir(id).join("data")
    }

    fn dir(&self, id: u16) -> PathBuf {
        self.data.path().join(format!("node-{id}"))
    }

    fn format(&self, id: u16, overrides: &[String]) -> Result<()> {
        let dir = self.dir(id);
        fs::create_dir_all(&dir)?;
        let nodes = self.node_count();
        let controller = self.port + nodes + id;
        let voters: Vec<_> = (0..nodes)
            .map(|voter| format!("{voter}@127.0.0.1:{}", self.port + nodes + voter))
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
            format!("log.dirs={}", self.data_dir(id).display()),
            format!("default.replication.factor={nodes}"),
            format!("min.insync.replicas={}", nodes.div_ceil(2)),
            format!("offsets.topic.replication.factor={nodes}"),
            format!("transaction.state.log.replication.factor={nodes}"),
            format!("transaction.state.log.min.isr={}", nodes.div_ceil(2)),
        ];
        properties.extend_from_slice(overrides);
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
            .args([
                format!("-Xms{}m", self.heap_mib),
                format!("-Xmx{}m", self.heap_mib),
            ])
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

/// The version of Kafka that is started.
///
/// # Errors
/// When the file that pins it can't be read.
pub fn version() -> Result<String> {
    kafka_version(&pom())
}

fn pom() -> PathBuf {
    client_sources("kafka").join("pom.xml")
}

fn free_port(nodes: u16) -> Result<u16> {
    let is_free = |port| TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).is_ok();
    (FIRST_PORT..20_000)
        .step_by(usize::from(PORT_STEP))
        .find(|first| (0..2 * nodes).all(|offset| is_free(first + offset)))
        .context("no free ports for Kafka")
}
