//! The clusters that are compared.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::Result;
use klamm_e2e::dev_cluster::{DevCluster, DevOptions};
use klamm_e2e::kafka_cluster::{KafkaCluster, KafkaOptions};

/// What Kafka is usually given for tests of this size.
const KAFKA_HEAP_MIB: u32 = 1024;
/// Kafka's default; `dev` has none.
const INITIAL_REBALANCE_DELAY: &str = "group.initial.rebalance.delay.ms=3000";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemKind {
    Klamm,
    Kafka,
}

enum Cluster {
    Klamm(DevCluster),
    Kafka(KafkaCluster),
}

/// A running cluster.
pub(crate) struct System {
    cluster: Cluster,
    nodes: u16,
    /// From the start of the first process until every broker served.
    pub(crate) started_in: Duration,
}

impl System {
    pub(crate) fn start(kind: SystemKind, nodes: u16) -> Result<Self> {
        let overrides = vec![
            format!("min.insync.replicas={}", nodes.div_ceil(2)),
            INITIAL_REBALANCE_DELAY.to_owned(),
        ];
        let start = Instant::now();
        let (cluster, started_in) = match kind {
            SystemKind::Klamm => {
                let cluster = DevCluster::start_with(DevOptions {
                    nodes,
                    overrides,
                    ..DevOptions::default()
                })?;
                (Cluster::Klamm(cluster), start.elapsed())
            }
            SystemKind::Kafka => {
                let cluster = KafkaCluster::start_with(&KafkaOptions {
                    nodes,
                    overrides,
                    heap_mib: KAFKA_HEAP_MIB,
                })?;
                let started_in = cluster.started_in();
                (Cluster::Kafka(cluster), started_in)
            }
        };
        Ok(Self {
            cluster,
            nodes,
            started_in,
        })
    }

    pub(crate) fn bootstrap(&self) -> String {
        match &self.cluster {
            Cluster::Klamm(cluster) => cluster.bootstrap(),
            Cluster::Kafka(cluster) => cluster.bootstrap(),
        }
    }

    /// The processes of all brokers, with commas between.
    pub(crate) fn pids(&self) -> Result<String> {
        let pids = (0..self.nodes).map(|id| match &self.cluster {
            Cluster::Klamm(cluster) => cluster.broker_pid(id),
            Cluster::Kafka(cluster) => cluster.pid(id),
        });
        let pids = pids.collect::<Result<Vec<_>>>()?;
        Ok(pids
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(","))
    }
}

impl fmt::Display for SystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Klamm => "Klamm",
            Self::Kafka => "Apache Kafka",
        })
    }
}
