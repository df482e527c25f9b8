//! Brokers on this machine: `klamm-broker dev` on ports and in a directory of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;

use crate::BROKER_BIN;
use crate::process::{Signal, is_alive, send_signal, wait_until};
use crate::tool::{Output, Running, Tool, last_lines};

/// Distance of the gRPC and the health port from the client port, in `dev`.
const RPC_PORT_OFFSET: u16 = 10_000;
const HTTP_PORT_OFFSET: u16 = 20_000;
/// Client ports for which all three ports lie outside of the range that Linux takes for outgoing
/// connections.
const FIRST_PORT: u16 = 10_240;
const LAST_PORT: u16 = 12_700;
/// Distance between clusters.
const PORT_STEP: u16 = 10;
const READY_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const HTTP_LIMIT: Duration = Duration::from_secs(2);
const HTTP_ANSWER_BYTES_MAX: u64 = 1 << 20;
const LOG_EXCERPT_LINES: usize = 60;

/// How to start a development cluster.
#[derive(Debug, Clone, Default)]
pub struct DevOptions {
    /// Number of brokers
    pub nodes: u16,
    /// Configuration, `key=value` each
    pub overrides: Vec<String>,
    /// What else `dev` is told
    pub arguments: Vec<String>,
    /// The client port of broker 0; a free one unless set
    pub port: Option<u16>,
    /// A directory that outlives the cluster; a temporary one unless set
    pub data: Option<PathBuf>,
}

/// A development cluster; ends, with its data, when it is dropped.
#[derive(Debug)]
pub struct DevCluster {
    supervisor: Running,
    port: u16,
    nodes: u16,
    data: PathBuf,
    _temporary: Option<TempDir>,
}

impl DevCluster {
    /// Starts so many brokers and waits until each of them serves.
    ///
    /// # Errors
    /// When one of them does not; the ends of all logs are printed.
    pub fn start(nodes: u16, overrides: &[&str]) -> Result<Self> {
        Self::start_with(DevOptions {
            nodes,
            overrides: overrides.iter().map(|&text| text.to_owned()).collect(),
            ..DevOptions::default()
        })
    }

    /// As [`Self::start`], with more to choose.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(options: DevOptions) -> Result<Self> {
        let binary = broker_binary()?;
        let temporary = match options.data {
            None => Some(tempfile::Builder::new().prefix("klamm-e2e-").tempdir()?),
            Some(_) => None,
        };
        let data = match (&options.data, &temporary) {
            (Some(data), _) => data.clone(),
            (None, Some(temporary)) => temporary.path().join("data"),
            (None, None) => bail!("no data directory"),
        };
        let port = match options.port {
            Some(port) => port,
            None => free_port(options.nodes)?,
        };
        let mut tool = Tool::new(binary)
            .args(["dev", "--nodes", &options.nodes.to_string()])
            .args(["--port", &port.to_string(), "--data"])
            .args([&data])
            .args(&options.arguments);
        for setting in &options.overrides {
            tool = tool.args(["--set", setting]);
        }
        let mut cluster = Self {
            supervisor: tool.spawn()?,
            port,
            nodes: options.nodes,
            data,
            _temporary: temporary,
        };
        if let Err(error) = cluster.wait_until_ready() {
            cluster.print_logs();
            return Err(error);
        }
        Ok(cluster)
    }

    /// The addresses of all brokers, as clients take them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = (0..self.nodes)
            .map(|id| self.client_address(id).to_string())
            .collect();
        addresses.join(",")
    }

    /// How many brokers there are.
    #[must_use]
    pub fn nodes(&self) -> u16 {
        self.nodes
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn client_address(&self, id: u16) -> SocketAddr {
        loopback(self.port + id)
    }

    #[must_use]
    pub fn rpc_address(&self, id: u16) -> SocketAddr {
        loopback(self.port + id + RPC_PORT_OFFSET)
    }

    #[must_use]
    pub fn http_address(&self, id: u16) -> SocketAddr {
        loopback(self.port + id + HTTP_PORT_OFFSET)
    }

    /// The secret that every gRPC caller presents.
    ///
    /// # Errors
    /// When its file is not there.
    pub fn rpc_token(&self) -> Result<String> {
        let path = self.data.join("rpc-token");
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("can't read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The id of the process that watches over the brokers.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// What `dev` printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.supervisor.stdout()
    }

    #[must_use]
    pub fn log_file(&self, id: u16) -> PathBuf {
        self.data.join(format!("broker-{id}/broker.log"))
    }

    /// Where the broker keeps its logs.
    #[must_use]
    pub fn data_dir(&self, id: u16) -> PathBuf {
        self.data.join(format!("broker-{id}/data"))
    }

    /// The id of the broker's process, as `dev` printed it last.
    ///
    /// # Errors
    /// When `dev` did not print it.
    pub fn broker_pid(&self, id: u16) -> Result<u32> {
        let start = format!("broker {id}: pid ");
        let text = self.stdout();
        let rest = text
            .lines()
            .rev()
            .find_map(|line| line.strip_prefix(&start));
        let number = rest.and_then(|rest| rest.split(',').next());
        number
            .and_then(|number| number.parse().ok())
            .with_context(|| format!("no line {start:?} of dev in:\n{text}"))
    }

    /// Kills a broker with SIGKILL; `dev` starts it again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self, id: u16) -> Result<()> {
        send_signal(self.broker_pid(id)?, Signal::KILL)
    }

    /// Whether the broker says that it serves.
    #[must_use]
    pub fn is_ready(&self, id: u16) -> bool {
        http_status(self.http_address(id), "/readyz").is_ok_and(|status| status == 200)
    }

    /// Waits until the broker runs as another process than `old_pid`, and serves.
    ///
    /// # Errors
    /// When it does not within a minute.
    pub fn wait_until_restarted(&self, id: u16, old_pid: u32) -> Result<()> {
        let what = format!("broker {id} runs again and serves");
        wait_until(&what, READY_LIMIT, || {
            self.broker_pid(id).is_ok_and(|pid| pid != old_pid) && self.is_ready(id)
        })
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let ports = (0..self.nodes).map(|id| self.http_address(id));
        let addresses: Vec<_> = ports.collect();
        self.supervisor
            .wait_for("every broker serves", READY_LIMIT, |_| {
                addresses.iter().all(|address| {
                    http_status(*address, "/readyz").is_ok_and(|status| status == 200)
                })
            })
    }

    /// Stops everything as Ctrl-C does.
    ///
    /// # Errors
    /// When `dev` does not end in time, fails, or leaves a broker behind.
    pub fn stop(mut self) -> Result<Output> {
        let pids = (0..self.nodes).map(|id| self.broker_pid(id));
        let pids = pids.collect::<Result<Vec<_>>>()?;
        let output = self.supervisor.stop(Signal::INT, STOP_LIMIT)?;
        for pid in pids {
            ensure!(!is_alive(pid), "dev ended, broker process {pid} did not");
        }
        Ok(output)
    }

    /// Prints the ends of the logs, for a failed test.
    pub fn print_logs(&self) {
        println!(
            "--- dev printed:\n{}{}",
            self.stdout(),
            self.supervisor.stderr()
        );
        for id in 0..self.nodes {
            let path = self.log_file(id);
            let text = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            println!("--- the end of {}:", path.display());
            println!("{}", last_lines(&text, LOG_EXCERPT_LINES));
        }
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        if !self.supervisor.has_ended() {
            // Brokers stop before their data goes; what does not stop is killed with its parent.
            let _ = self.supervisor.stop(Signal::INT, STOP_LIMIT);
        }
    }
}

/// The broker to test, as [`BROKER_BIN`] names it.
///
/// # Errors
/// When the variable is not set, or names no file.
pub fn broker_binary() -> Result<PathBuf> {
    let hint = "build it (cargo build --release -p klamm-broker) and set it to the binary's path, \
                or run `cargo xtask test --only clients`, which does both";
    let path =
        std::env::var_os(BROKER_BIN).with_context(|| format!("{BROKER_BIN} is not set: {hint}"))?;
    let path = PathBuf::from(path);
    ensure!(
        path.is_file(),
        "{BROKER_BIN}={} is no file: {hint}",
        path.display()
    );
    Ok(path)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Clusters that start at the same time begin to look at different places.
fn free_port(nodes: u16) -> Result<u16> {
    let slots = (LAST_PORT - FIRST_PORT) / PORT_STEP;
    let first = u16::try_from(std::process::id() % u32::from(slots))?;
    (0..slots)
        .map(|slot| FIRST_PORT + (first + slot) % slots * PORT_STEP)
        .find(|&port| (0..nodes).all(|id| are_free(port + id)))
        .context("no free ports for brokers")
}

fn are_free(port: u16) -> bool {
    [0, RPC_PORT_OFFSET, HTTP_PORT_OFFSET]
        .iter()
        .all(|offset| TcpListener::bind(loopback(port + offset)).is_ok())
}

/// The status with which an HTTP server answers a GET.
///
/// # Errors
/// When it does not answer in time.
pub fn http_status(address: SocketAddr, path: &str) -> Result<u16> {
    let answer = http_get(address, path)?;
    answer
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok())
        .with_context(|| format!("{address} does not speak HTTP"))
}

/// A broker's metric, with its labels if it has any: `name{label="value"}`.
///
/// # Errors
/// When the broker does not answer in time, or has no such metric.
pub fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    let answer = http_get(address, "/metrics")?;
    let value = answer
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value
        .and_then(|value| value.trim().parse().ok())
        .with_context(|| format!("{address} has no metric {name}"))
}

/// The whole answer of an HTTP server, its head included.
fn http_get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, HTTP_LIMIT)?;
    stream.set_read_timeout(Some(HTTP_LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream
        .take(HTTP_ANSWER_BYTES_MAX)
        .read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
