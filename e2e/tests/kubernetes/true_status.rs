//! What the status says is what Kafka clients and Kubernetes see.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use klamm_crds::KafkaCluster;
use klamm_e2e::kubernetes::{BROKERS, CLUSTER, EXAMPLE_TOPIC, Example, Metadata};
use kube::{Api, ResourceExt as _};

const ZONE: &str = "topology.kubernetes.io/zone";

pub(crate) async fn of_cluster(example: &Example) -> Result<()> {
    let cluster = example.healthy().await?;
    let status = cluster.status.clone().context("no status")?;
    let ids: Vec<_> = status.brokers.iter().map(|broker| broker.id).collect();
    ensure!(ids == [0, 1, 2] && status.voters == ids, "{status:?}");
    ensure!(
        status
            .brokers
            .iter()
            .all(|broker| broker.state == "Serving")
    );
    ensure!(status.offline_partitions == Some(0), "{status:?}");
    ensure!(status.under_replicated_partitions == Some(0), "{status:?}");
    let internal = format!("{CLUSTER}-bootstrap.{}.svc:9092", example.namespace);
    ensure!(status.listeners[0].bootstrap == internal, "{status:?}");

    let metadata = Metadata::read(&example.kcat().await?)?;
    let advertised: BTreeMap<_, _> = metadata
        .brokers
        .into_iter()
        .map(|b| (b.id, b.name))
        .collect();
    let address = |broker: &klamm_crds::BrokerStatus| {
        let host = broker.advertised_host.as_deref()?;
        Some((broker.id, format!("{host}:{}", broker.node_port?)))
    };
    let reported: BTreeMap<_, _> = status.brokers.iter().filter_map(address).collect();
    ensure!(
        advertised == reported,
        "advertised {advertised:?}, reported {reported:?}"
    );
    zones_are_those_of_the_nodes(example, &cluster).await
}

async fn zones_are_those_of_the_nodes(example: &Example, cluster: &KafkaCluster) -> Result<()> {
    let nodes = Api::<Node>::all(example.access.client.clone());
    let nodes = nodes.list(&Default::default()).await?;
    let zones: BTreeMap<_, _> = nodes
        .iter()
        .map(|node| (node.name_any(), node.labels().get(ZONE).cloned()))
        .collect();
    let pods = example.broker_pods().await?;
    let brokers = cluster.status.iter().flat_map(|status| &status.brokers);
    for broker in brokers {
        let name = format!("{CLUSTER}-{}-{}-0", broker.pool, broker.id);
        let pod = pods.get(&name).with_context(|| format!("no pod {name}"))?;
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let zone = node.and_then(|node| zones.get(&node).cloned()).flatten();
        ensure!(
            zone == broker.zone,
            "{name} runs in zone {zone:?}, not in {:?}",
            broker.zone
        );
    }
    Ok(())
}

pub(crate) async fn of_topic(example: &Example) -> Result<()> {
    let topic = example.synced_topic(EXAMPLE_TOPIC).await?;
    let status = topic.status.context("no status")?;
    let metadata = Metadata::read(&example.kcat().await?)?;
    let partitions = metadata.topic(EXAMPLE_TOPIC)?;
    ensure!(partitions.len() == 12, "{partitions:?}");
    ensure!(
        status.partitions == Some(12) && status.replication_factor == Some(3),
        "{status:?}"
    );
    ensure!(
        status.topic_id.is_some() && status.unmanaged_config.is_empty(),
        "{status:?}"
    );
    ensure!(
        status.managed_config == ["min.insync.replicas"],
        "{status:?}"
    );
    ensure!(partitions.iter().all(|p| p.is_in_sync()), "{partitions:?}");
    let mut leaders = BTreeMap::<i32, usize>::new();
    for partition in partitions {
        let replicas: BTreeSet<_> = partition.replicas().into_iter().collect();
        ensure!(replicas.len() == BROKERS, "{partition:?}");
        *leaders.entry(partition.leader).or_default() += 1;
    }
    ensure!(
        leaders.values().all(|count| *count == 4),
        "leaders are uneven: {leaders:?}"
    );
    Ok(())
}
