//! The cluster that client cases run against: Klamm's or, to be compared with, Apache Kafka's.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::dev_cluster::DevCluster;
use crate::kafka_cluster::{self, KafkaCluster};
use crate::process::{Signal, is_alive, send_signal, wait_until};

/// The environment variable that names the system: `klamm`, which is the default, or `kafka`.
pub const AGAINST: &str = "KLAMM_E2E_AGAINST";
const END_LIMIT: Duration = Duration::from_secs(30);

/// Whose brokers the clients talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Klamm,
    Kafka,
}

impl System {
    /// The one that [`AGAINST`] names.
    ///
    /// # Errors
    /// When it names another.
    pub fn from_environment() -> Result<Self> {
        match std::env::var(AGAINST).as_deref() {
            Err(_) | Ok("klamm") => Ok(Self::Klamm),
            Ok("kafka") => Ok(Self::Kafka),
            Ok(other) => bail!("{AGAINST}={other} is neither klamm nor kafka"),
        }
    }

    /// With its version, for people.
    ///
    /// # Errors
    /// When the file that pins Kafka's version can't be read.
    pub fn title(self) -> Result<String> {
        Ok(match self {
            Self::Klamm => format!("Klamm {}", env!("CARGO_PKG_VERSION")),
            Self::Kafka => format!("Apache Kafka {}", kafka_cluster::version()?),
        })
    }
}

/// Brokers on this machine; they end, with their data, when it is dropped.
#[derive(Debug)]
pub enum Cluster {
    Klamm(DevCluster),
    Kafka(KafkaCluster),
}

impl Cluster {
    /// Starts three brokers of the system that [`AGAINST`] names, and waits until they serve.
    ///
    /// # Errors
    /// When one of them does not.
    pub fn start(overrides: &[&str]) -> Result<Self> {
        Ok(match System::from_environment()? {
            System::Klamm => Self::Klamm(DevCluster::start(3, overrides)?),
            System::Kafka => Self::Kafka(KafkaCluster::start(overrides)?),
        })
    }

    /// The addresses of all brokers, as clients take them.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Klamm(cluster) => cluster.bootstrap(),
            Self::Kafka(cluster) => cluster.bootstrap(),
        }
    }

    #[must_use]
    pub fn client_address(&self, id: u16) -> SocketAddr {
        match self {
            Self::Klamm(cluster) => cluster.client_address(id),
            Self::Kafka(cluster) => cluster.client_address(id),
        }
    }

    /// Where a broker keeps its logs.
    #[must_use]
    pub fn data_dir(&self, id: u16) -> PathBuf {
        match self {
            Self::Klamm(cluster) => cluster.data_dir(id),
            Self::Kafka(cluster) => cluster.data_dir(id),
        }
    }

    /// The process of a broker.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pid(&self, id: u16) -> Result<u32> {
        match self {
            Self::Klamm(cluster) => cluster.broker_pid(id),
            Self::Kafka(cluster) => cluster.pid(id),
        }
    }

    /// Kills a broker with SIGKILL, starts it again, and waits until it serves.
    ///
    /// # Errors
    /// When it does not.
    pub fn kill_and_restart(&mut self, id: u16) -> Result<()> {
        let pid = self.pid(id)?;
        send_signal(pid, Signal::KILL)?;
        match self {
            Self::Klamm(cluster) => cluster.wait_until_restarted(id, pid),
            Self::Kafka(cluster) => {
                wait_until("the killed node is gone", END_LIMIT, || !is_alive(pid))?;
                cluster.restart(id)
            }
        }
    }

    /// Prints what is known of the brokers, for a failed test.
    pub fn print_logs(&self) {
        match self {
            Self::Klamm(cluster) => cluster.print_logs(),
            Self::Kafka(cluster) => cluster.print_logs(),
        }
    }
}
