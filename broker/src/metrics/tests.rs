use std::collections::BTreeSet;

use broker_core::BrokerId;
use broker_core::metadata::{self, BrokerChange, Image, Record, RegisterBroker};
use tempfile::TempDir;

use super::cluster::ClusterNumbers;
use super::*;
use crate::config::{BrokerConfig, Properties, RpcTlsSettings};
use crate::partition::Storage;
use crate::rpc::RpcTls;
use crate::tls::testing::{Authority, write_secret};

const ME: BrokerId = BrokerId(1);
/// What users read about the metrics.
const DOCUMENTATION: &str = include_str!("../../../docs/monitoring.md");

/// A broker in service, 1, and a fenced one, 2, with partitions that have, in this order, both, one and
/// none of them in sync.
fn image() -> Image {
    let mut records: Vec<Record> = [ME.0, 2]
        .map(|broker_id| {
            Record::RegisterBroker(RegisterBroker {
                broker_id,
                broker_epoch: 1,
                ..RegisterBroker::default()
            })
        })
        .into();
    records.push(Record::BrokerChange(BrokerChange {
        broker_id: ME.0,
        broker_epoch: 1,
        fenced: Some(false),
        ..BrokerChange::default()
    }));
    let topic_id: metadata::Uuid = broker_core::TopicId([7; 16]).into();
    records.push(Record::Topic(metadata::Topic {
        topic_id,
        name: "t".to_owned(),
    }));
    for (partition, isr) in [(0, vec![ME.0, 2]), (1, vec![ME.0]), (2, Vec::new())] {
        records.push(Record::Partition(metadata::Partition {
            topic_id,
            partition,
            replicas: vec![ME.0, 2],
            leader: isr.first().copied().unwrap_or(-1),
            isr,
            ..metadata::Partition::default()
        }));
    }
    let mut image = Image::default();
    for record in &records {
        image.apply(record).unwrap();
    }
    image
}

fn cluster_numbers(controller: Option<BrokerId>) -> ClusterNumbers {
    let image = image();
    let mut numbers = ClusterNumbers::of(ME, &image, &image.counts(2));
    numbers.controller = controller;
    numbers
}

/// Every source that a broker has.
fn all(dir: &TempDir) -> Metrics {
    let properties: Properties = [
        ("node.id", "1"),
        ("listeners", "PLAINTEXT://127.0.0.1:9092"),
        ("klamm.rpc.token.file", "/nowhere"),
        ("klamm.cluster.id", "test"),
        ("controller.quorum.voters", "1@127.0.0.1:1"),
        ("log.dirs", dir.path().to_str().unwrap()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let config = Arc::new(BrokerConfig::new(properties).unwrap());
    let storage = Storage::open(&config, Health::default().recovery()).unwrap();
    let partitions = Arc::new(PartitionManager::new(config, storage));
    let metrics = Metrics::default();
    metrics.add(HealthMetrics(Health::default()));
    metrics.add(PartitionMetrics(partitions));
    metrics.add(cluster_numbers(Some(ME)));
    metrics.add(GroupMetrics(Arc::default()));
    metrics.add(TransactionMetrics(Arc::default()));
    metrics.add(ClientMetrics(Arc::default()));
    let authority = Authority::new("authority");
    write_secret(dir.path(), &authority.issue("c"), &[&authority]);
    let rpc = RpcTls::load(&RpcTlsSettings {
        dir: dir.path().to_owned(),
        name: "c".to_owned(),
    });
    metrics.add(TlsMetrics::new(
        [].into_iter(),
        Some(&Arc::new(rpc.unwrap())),
    ));
    metrics
}

/// Name and type of each metric in an exposition text, as queries name them.
fn exposed(text: &str) -> BTreeSet<(String, String)> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{suffix}"), kind.to_owned())
        })
        .collect()
}

/// Those of the tables in the documentation, without the operator's.
fn documented() -> BTreeSet<(String, String)> {
    let rows = DOCUMENTATION.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.to_owned()))
    });
    let is_ours = |(name, _): &(String, String)| {
        name.starts_with("process_")
            || name.starts_with("klamm_") && !name.starts_with("klamm_operator_")
    };
    rows.filter(is_ours).collect()
}

#[test]
fn the_documentation_lists_every_metric() {
    let dir = TempDir::new().unwrap();
    assert_eq!(documented(), exposed(&all(&dir).render()));
}

#[test]
fn the_state_of_the_cluster_is_told() {
    let rendered = |controller| {
        let metrics = Metrics::default();
        metrics.add(cluster_numbers(controller));
        metrics.render()
    };
    let text = rendered(Some(ME));
    for line in [
        "klamm_cluster_active_brokers 1",
        "klamm_cluster_fenced_brokers 1",
        "klamm_cluster_partitions 3",
        "klamm_cluster_offline_partitions 1",
        "klamm_cluster_under_replicated_partitions 2",
        "klamm_cluster_under_min_isr_partitions 2",
        "klamm_cluster_controller_id 1",
        "klamm_active_controller 1",
    ] {
        assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
    }
    let elsewhere = rendered(Some(BrokerId(2)));
    assert!(elsewhere.contains("\nklamm_active_controller 0\n"));
    let nowhere = rendered(None);
    assert!(nowhere.contains("\nklamm_cluster_controller_id -1\n"));
    assert!(nowhere.contains("\nklamm_active_controller 0\n"));
}

#[test]
fn space_and_process_are_told() {
    let dir = TempDir::new().unwrap();
    let space = disks::space(dir.path()).unwrap();
    assert!(space.free_bytes > 0 && space.free_bytes <= space.capacity_bytes);
    assert_eq!(disks::space(&dir.path().join("gone")), None);

    let text = all(&dir).render();
    let path = dir.path().display();
    assert!(text.contains(&format!("\nklamm_log_dir_free_bytes{{dir=\"{path}\"}} ")));
    assert!(text.contains("\nprocess_resident_memory_bytes "));
    assert!(text.contains("\nprocess_cpu_seconds_total "));
}
