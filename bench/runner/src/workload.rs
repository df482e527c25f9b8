//! The workloads: what is produced and consumed, what is taken from it, and what it is to be
//! beside Apache Kafka.

use crate::figure::Figure::{self, *};

/// A load on a cluster of its own topic, and the figures that it gives.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) nodes: u16,
    /// Of `klamm-bench create-topic`
    pub(crate) topic: &'static [&'static str],
    pub(crate) load: Load,
    /// With the largest ratio to Kafka's that is wanted, or the smallest where more is better
    pub(crate) figures: &'static [(Figure, Option<f64>)],
}

pub(crate) enum Load {
    /// From the start of the first process until a record is acknowledged
    FirstProduce,
    /// Nothing for some seconds
    Idle,
    /// Arguments of `klamm-bench produce`
    Produce(&'static [&'static str]),
    /// Arguments of `klamm-bench produce`, which fills the topic, and `klamm-bench consume`
    Consume {
        fill: &'static [&'static str],
        consume: &'static [&'static str],
    },
    /// Arguments of Kafka's `kafka-producer-perf-test`
    JavaProducer(&'static [&'static str]),
}

const RF_3: &[&str] = &["--partitions=6", "--replicas=3"];
const KEYED_RF_3: &[&str] = &["--partitions=100", "--replicas=3"];

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "start",
        what: "start of a new broker until the first record is acknowledged",
        nodes: 1,
        topic: &[],
        load: Load::FirstProduce,
        figures: &[(StartSeconds, Some(0.1))],
    },
    Workload {
        name: "idle",
        what: "one broker without load",
        nodes: 1,
        topic: &[],
        load: Load::Idle,
        figures: &[(RssMib, Some(0.05))],
    },
    Workload {
        name: "consume-1k",
        what: "1 consumer, 1 KiB records from the page cache",
        nodes: 1,
        topic: &["--partitions=1"],
        load: Load::Consume {
            fill: &["--seconds=2", "--warm-up=0", "--batch-bytes=65536"],
            consume: &["--warm-up=1", "--seconds=6"],
        },
        figures: &[(CpuPerGb, Some(0.5)), (MbPerSecond, None)],
    },
    Workload {
        name: "fsync",
        what: "64 producers, 1 KiB records, 16 KiB batches, fsync before the acknowledgement",
        nodes: 1,
        topic: &["--partitions=1", "--config=flush.messages=1"],
        load: Load::Produce(&["--producers=64", "--in-flight=1", "--seconds=8"]),
        figures: &[(RecordsPerSecond, Some(5.0))],
    },
    Workload {
        name: "page-cache",
        what: "the same, acknowledged from the page cache",
        nodes: 1,
        topic: &["--partitions=1"],
        load: Load::Produce(&["--producers=64", "--in-flight=1", "--seconds=8"]),
        figures: &[(RecordsPerSecond, None)],
    },
    Workload {
        name: "produce-1k",
        what: "8 producers, 1 KiB records, 16 KiB batches, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::Produce(&["--producers=8", "--seconds=8"]),
        figures: &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)],
    },
    Workload {
        name: "produce-100",
        what: "8 producers, 100 B records, 16 KiB batches, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::Produce(&["--producers=8", "--record-bytes=100", "--seconds=8"]),
        figures: &[(CpuPerMillion, Some(0.25)), (RecordsPerSecond, None)],
    },
    Workload {
        name: "produce-large",
        what: "8 producers, 1 KiB records, 256 KiB batches, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::Produce(&["--producers=8", "--batch-bytes=262144", "--seconds=8"]),
        figures: &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)],
    },
    Workload {
        name: "produce-single",
        what: "8 producers, one 1 KiB record in each batch, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::Produce(&["--producers=8", "--batch-bytes=0", "--seconds=8"]),
        figures: &[(CpuPerMillion, None), (RecordsPerSecond, None)],
    },
    Workload {
        name: "keyed",
        what: "64 keyed producers over 100 partitions, 8 batches of 4 KiB in a request, acks=all",
        nodes: 3,
        topic: KEYED_RF_3,
        load: Load::Produce(&[
            "--producers=64",
            "--record-bytes=100",
            "--key-bytes=16",
            "--batch-bytes=4096",
            "--batches-per-request=8",
            "--seconds=8",
        ]),
        figures: &[(RecordsPerSecond, Some(3.0)), (RssMib, Some(0.15))],
    },
    Workload {
        name: "latency",
        what: "5,000 records/s of 1 KiB, each a request of its own, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::Produce(&[
            "--producers=4",
            "--batch-bytes=0",
            "--rate=5000",
            "--in-flight=100",
            "--warm-up=5",
            "--seconds=20",
        ]),
        figures: &[(P99Ms, Some(0.33)), (P999Ms, Some(0.33))],
    },
    Workload {
        name: "java-producer",
        what: "Kafka's own perf producer, 1 KiB records, acks=all",
        nodes: 3,
        topic: RF_3,
        load: Load::JavaProducer(&["--num-records=300000", "--record-size=1024"]),
        figures: &[(RecordsPerSecond, Some(2.0))],
    },
];
