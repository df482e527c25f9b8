//! The cluster and the topic of `examples/`, in a namespace of the test.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use klamm_crds::{DeletionPolicy, KafkaCluster, Topic, TopicSpec};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, Resource, ResourceExt as _};

use super::{Access, condition, diagnosis, wait_for};
use crate::client::Kcat;

/// Name of the cluster in `examples/cluster.yaml`.
pub const CLUSTER: &str = "demo";
/// Number of its brokers.
pub const BROKERS: usize = 3;
/// The topic in `examples/topic.yaml`.
pub const EXAMPLE_TOPIC: &str = "events";

/// For brokers that have to start, find each other and catch up.
const HEALTHY_LIMIT: Duration = Duration::from_secs(180);
/// Short, as every restart of a case waits for it.
const SOAK_SECONDS: i32 = 2;
const TOPIC_LIMIT: Duration = Duration::from_secs(60);

/// The example in a namespace of its own.
pub struct Example {
    pub access: Access,
    pub namespace: String,
}

impl Example {
    /// Applies the examples to a new namespace.
    ///
    /// # Errors
    /// When the API server refuses them.
    pub async fn apply() -> Result<Self> {
        let access = Access::from_environment().await?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let namespace = format!("klamm-e2e-{seconds}");
        let object = Namespace {
            metadata: ObjectMeta {
                name: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let namespaces = Api::<Namespace>::all(access.client.clone());
        namespaces.create(&PostParams::default(), &object).await?;
        println!("  namespace {namespace}");
        let example = Self { access, namespace };
        let mut cluster: KafkaCluster =
            serde_yaml::from_str(include_str!("../../../examples/cluster.yaml"))?;
        cluster.spec.rollout.soak_seconds = SOAK_SECONDS;
        let topic: Topic = serde_yaml::from_str(include_str!("../../../examples/topic.yaml"))?;
        let params = PostParams::default();
        example.api().create(&params, &cluster).await?;
        example.api().create(&params, &topic).await?;
        Ok(example)
    }

    /// Deletes the namespace, with volumes and data; Kubernetes finishes that by itself.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.access.client.clone());
        namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await?;
        Ok(())
    }

    /// Prints what helps to understand a failure.
    pub fn print_state(&self) {
        diagnosis::print(&self.access, &self.namespace);
    }

    /// Objects of the namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.access.client.clone(), &self.namespace)
    }

    /// The cluster, once nothing is missing in it.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn healthy(&self) -> Result<KafkaCluster> {
        let what = "every broker serves and everything is replicated";
        let met = |cluster: Option<&KafkaCluster>| cluster.is_some_and(is_healthy);
        let cluster = wait_for(&self.api(), CLUSTER, what, HEALTHY_LIMIT, met).await?;
        cluster.context("the cluster is gone")
    }

    /// The address for clients outside, of a cluster that is healthy.
    ///
    /// # Errors
    /// When it does not get healthy, or has no such address.
    pub async fn external_bootstrap(&self) -> Result<String> {
        let status = self.healthy().await?.status.unwrap_or_default();
        let mut listeners = status.listeners.into_iter();
        let external = listeners.find(|listener| listener.node_port.is_some());
        Ok(external
            .context("the status has no listener with a node port")?
            .bootstrap)
    }

    /// kcat on this machine, against a healthy cluster.
    ///
    /// # Errors
    /// As [`Self::external_bootstrap`].
    pub async fn kcat(&self) -> Result<Kcat> {
        Ok(Kcat::new(&self.external_bootstrap().await?))
    }

    /// Makes a topic of three replicas by a Topic object of the same name, and waits until it is
    /// ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        deletion_policy: DeletionPolicy,
    ) -> Result<Topic> {
        let spec = serde_json::json!({
            "clusterRef": { "name": CLUSTER },
            "partitions": partitions,
            "replicationFactor": BROKERS,
            "deletionPolicy": deletion_policy,
        });
        let topic = Topic::new(name, serde_json::from_value::<TopicSpec>(spec)?);
        self.api().create(&PostParams::default(), &topic).await?;
        self.synced_topic(name).await
    }

    /// The topic, once it is as its spec says.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn synced_topic(&self, name: &str) -> Result<Topic> {
        let what = "the topic is as specified";
        let met = |topic: Option<&Topic>| topic.is_some_and(topic_is_synced);
        let topic = wait_for(&self.api(), name, what, TOPIC_LIMIT, met).await?;
        topic.context("the topic is gone")
    }

    /// The pods of the brokers by name.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn broker_pods(&self) -> Result<BTreeMap<String, Pod>> {
        let pods = self.api::<Pod>().list(&self.of_brokers()).await?;
        Ok(pods.into_iter().map(|pod| (pod.name_any(), pod)).collect())
    }

    /// Selects the objects of the brokers.
    #[must_use]
    pub fn of_brokers(&self) -> ListParams {
        ListParams::default().labels(&format!("klamm.dev/cluster={CLUSTER},klamm.dev/broker-id"))
    }
}

/// Whether the status says, of the newest spec, that the cluster has the brokers that it asks for, and that
/// every one serves, is up to date, and has all its replicas in sync.
#[must_use]
pub fn is_healthy(cluster: &KafkaCluster) -> bool {
    let generation = cluster.metadata.generation;
    let wanted: i32 = cluster.spec.pools.iter().map(|pool| pool.replicas).sum();
    cluster.status.as_ref().is_some_and(|status| {
        let says = |type_, value| condition(&status.conditions, type_, value, generation).is_some();
        says("Ready", "True")
            && says("Progressing", "False")
            && says("Degraded", "False")
            && (status.replicas, status.ready_brokers) == (wanted, wanted)
            && status.brokers.iter().all(|broker| broker.up_to_date)
    })
}

/// Whether the status says, of the newest spec, that the topic is as specified.
#[must_use]
pub fn topic_is_synced(topic: &Topic) -> bool {
    topic.status.as_ref().is_some_and(|status| {
        let generation = topic.metadata.generation;
        condition(&status.conditions, "Ready", "True", generation).is_some()
    })
}
