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
    pub(crate) figures: Figures,
}

pub(crate) enum Load {
    /// From the start of the first process until a record is acknowledged
    FirstProduce,
    /// Arguments of `klamm-bench idle`
    Idle(Arguments),
    /// Arguments of `klamm-bench group`
    Group(Arguments),
    /// Arguments of `klamm-bench offsets-failover`, which kills a broker
    OffsetsFailover(Arguments),
    /// Arguments of `klamm-bench produce`
    Produce(Arguments),
    /// Arguments of `klamm-bench produce`, which fills the topic, and `klamm-bench consume`
    Consume { fill: Arguments, consume: Arguments },
    /// Arguments of Kafka's `kafka-producer-perf-test`
    JavaProducer(Arguments),
}

type Arguments = &'static [&'static str];
type Figures = &'static [(Figure, Option<f64>)];

const ONE: Arguments = &["--partitions=1"];
const RF_3: Arguments = &["--partitions=6", "--replicas=3"];
const HUNDRED_RF_3: Arguments = &["--partitions=100", "--replicas=3"];
const THOUSAND_RF_3: Arguments = &["--partitions=1000", "--replicas=3"];

const SINGLES_AT_1000: Arguments = &[
    "--producers=4",
    "--batch-bytes=0",
    "--rate=1000",
    "--in-flight=100",
    "--warm-up=5",
    "--seconds=20",
];
const SINGLES_AT_5000: Arguments = &[
    "--producers=4",
    "--batch-bytes=0",
    "--rate=5000",
    "--in-flight=100",
    "--warm-up=5",
    "--seconds=20",
];
const KEYED: Arguments = &[
    "--producers=64",
    "--record-bytes=100",
    "--key-bytes=16",
    "--batch-bytes=4096",
    "--batches-per-request=8",
    "--seconds=8",
];
/// A partition for each member, which nobody produces to.
const THOUSAND_RF_1: Arguments = &["--partitions=1000"];
const GROUP_OF_1000: Figures = &[
    (FormSeconds, None),
    (FormCpu, None),
    (RebalanceSeconds, None),
    (RebalanceCpu, None),
    (CpuPerMinute, None),
    (RssAfterMib, None),
];
const GROUPS_OF_1: Figures = &[
    (FormSeconds, None),
    (FormCpu, None),
    (CpuPerMinute, None),
    (RssAfterMib, None),
];

#[rustfmt::skip]
pub(crate) const WORKLOADS: &[Workload] = &[
    // One broker: what it takes to be there.
    of(1, "start", "start of a new broker until the first record is acknowledged",
        &[], Load::FirstProduce,
        &[(StartSeconds, Some(0.1))]),
    of(1, "idle", "one broker without load",
        &[], Load::Idle(&["--warm-up=5", "--seconds=10"]),
        &[(RssMib, Some(0.05)), (CpuPercent, None)]),
    of(1, "idle-connections", "1,000 connections without requests",
        &[], Load::Idle(&["--connections=1000", "--warm-up=2", "--seconds=5"]),
        &[(RssMib, Some(0.15))]),
    // One broker: consumers, and what an fsync costs.
    of(1, "consume-1k", "1 consumer, 1 KiB records from the page cache",
        ONE, Load::Consume {
            fill: &["--seconds=2", "--warm-up=0", "--batch-bytes=65536"],
            consume: &["--warm-up=1", "--seconds=6"],
        },
        &[(CpuPerGb, Some(0.5)), (MbPerSecond, None)]),
    of(1, "consume-100", "1 consumer, 100 B records from the page cache, lz4",
        ONE, Load::Consume {
            fill: &["--seconds=2", "--warm-up=0", "--record-bytes=100", "--compression=lz4"],
            consume: &["--warm-up=1", "--seconds=6"],
        },
        &[(CpuPerGb, Some(0.5)), (MbPerSecond, None)]),
    of(1, "fsync", "64 producers, 1 KiB records, 16 KiB batches, fsync before the acknowledgement",
        &["--partitions=1", "--config=flush.messages=1"],
        Load::Produce(&["--producers=64", "--in-flight=1", "--seconds=8"]),
        &[(RecordsPerSecond, Some(5.0))]),
    of(1, "page-cache", "the same, acknowledged from the page cache",
        ONE, Load::Produce(&["--producers=64", "--in-flight=1", "--seconds=8"]),
        &[(RecordsPerSecond, None)]),
    // Three brokers: throughput by what the batches are like.
    of(3, "produce-1k", "8 producers, 1 KiB records, 16 KiB batches, acks=all",
        RF_3, Load::Produce(&["--producers=8", "--seconds=8"]),
        &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)]),
    of(3, "produce-100", "8 producers, 100 B records, 16 KiB batches, acks=all",
        RF_3, Load::Produce(&["--producers=8", "--record-bytes=100", "--seconds=8"]),
        &[(CpuPerMillion, Some(0.25)), (RecordsPerSecond, None)]),
    of(3, "produce-lz4", "the same, compressed with lz4",
        RF_3, Load::Produce(&["--producers=8", "--record-bytes=100", "--compression=lz4", "--seconds=8"]),
        &[(CpuPerMillion, Some(0.25)), (RecordsPerSecond, None)]),
    of(3, "produce-zstd", "the same, compressed with zstd",
        RF_3, Load::Produce(&["--producers=8", "--record-bytes=100", "--compression=zstd", "--seconds=8"]),
        &[(CpuPerMillion, Some(0.25)), (RecordsPerSecond, None)]),
    of(3, "produce-large", "8 producers, 1 KiB records, 256 KiB batches, acks=all",
        RF_3, Load::Produce(&["--producers=8", "--batch-bytes=262144", "--seconds=8"]),
        &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)]),
    of(3, "produce-single", "8 producers, one 1 KiB record in each batch, acks=all",
        RF_3, Load::Produce(&["--producers=8", "--batch-bytes=0", "--seconds=8"]),
        &[(CpuPerMillion, None), (RecordsPerSecond, None)]),
    // Three brokers: throughput by who produces, and where to.
    of(3, "acks-1", "8 producers, 1 KiB records, 16 KiB batches, acks=1",
        RF_3, Load::Produce(&["--producers=8", "--acks=1", "--seconds=8"]),
        &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)]),
    of(3, "one-producer", "1 producer, 1 KiB records, 16 KiB batches, acks=all",
        RF_3, Load::Produce(&["--producers=1", "--seconds=8"]),
        &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)]),
    of(3, "many-producers", "64 producers, 1 KiB records, 16 KiB batches, acks=all",
        RF_3, Load::Produce(&["--producers=64", "--seconds=8"]),
        &[(CpuPerGb, Some(0.25)), (MbPerSecond, None)]),
    of(3, "keyed", "64 keyed producers over 100 partitions, 8 batches of 4 KiB in a request, acks=all",
        HUNDRED_RF_3, Load::Produce(KEYED),
        &[(RecordsPerSecond, Some(3.0)), (RssMib, Some(0.15))]),
    of(3, "java-producer", "Kafka's own perf producer, 1 KiB records, acks=all",
        RF_3, Load::JavaProducer(&["--num-records=300000", "--record-size=1024"]),
        &[(RecordsPerSecond, Some(2.0))]),
    // Three brokers: many partitions.
    of(3, "partitions-idle", "1,000 partitions without load",
        THOUSAND_RF_3, Load::Idle(&["--warm-up=5", "--seconds=10"]),
        &[(RssMib, Some(0.15)), (CpuPercent, None)]),
    of(3, "partitions-active", "64 keyed producers over 1,000 partitions, 8 batches of 4 KiB in a request, acks=all",
        THOUSAND_RF_3, Load::Produce(KEYED),
        &[(RecordsPerSecond, Some(3.0)), (CpuPerMillion, None)]),
    // Three brokers: how long an acknowledgement takes.
    of(3, "latency-1000", "1,000 records/s of 1 KiB, each a request of its own, acks=all",
        RF_3, Load::Produce(SINGLES_AT_1000),
        &[(P99Ms, Some(0.33)), (P999Ms, Some(0.33))]),
    of(3, "latency", "5,000 records/s of 1 KiB, each a request of its own, acks=all",
        RF_3, Load::Produce(SINGLES_AT_5000),
        &[(P99Ms, Some(0.33)), (P999Ms, Some(0.33))]),
    // Three brokers: consumer groups.
    of(3, "group-classic", "1 group of 1,000 consumers, one of which joins later; classic protocol",
        THOUSAND_RF_1, Load::Group(&["--members=1000", "--seconds=30"]),
        GROUP_OF_1000),
    of(3, "group-consumer", "the same, consumer protocol (KIP-848)",
        THOUSAND_RF_1, Load::Group(&["--members=1000", "--protocol=consumer", "--seconds=30"]),
        GROUP_OF_1000),
    of(3, "groups-classic", "2,000 groups of 1 consumer; classic protocol",
        RF_3, Load::Group(&["--groups=2000", "--seconds=30"]),
        GROUPS_OF_1),
    of(3, "groups-consumer", "the same, consumer protocol (KIP-848)",
        RF_3, Load::Group(&["--groups=2000", "--protocol=consumer", "--seconds=30"]),
        GROUPS_OF_1),
    // The last, because a broker is dead afterwards.
    of(3, "offsets-failover", "1,000,000 commits of 100,000 offsets, then kill -9 of their coordinator until another one has told all",
        HUNDRED_RF_3, Load::OffsetsFailover(&["--groups=1000", "--rounds=10"]),
        &[(FailoverSeconds, None)]),
];

const fn of(
    nodes: u16,
    name: &'static str,
    what: &'static str,
    topic: Arguments,
    load: Load,
    figures: Figures,
) -> Workload {
    Workload {
        name,
        what,
        nodes,
        topic,
        load,
        figures,
    }
}
