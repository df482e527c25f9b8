//! gRPC client for the brokers' Admin service. Every call has a time-out; what cannot be asked is
//! reported as unknown, never guessed.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use klamm_crds::KafkaCluster;
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::{
    AlterTopicRequest, ClusterDescription, CreateTopicRequest, DeleteTopicRequest,
    DescribeClusterRequest, DescribeTopicsRequest, ReplicaAssignment, TopicDescription,
};
use operator_plan::naming;
use operator_plan::observed::{Admin, BrokerFacts, BrokerState, ClusterFacts};
use operator_plan::topic::LiveTopic;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// A change waits for its commit.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// Worth another attempt.
    #[error("the brokers cannot be reached: {0}")]
    Unavailable(String),
    /// The same call would fail again.
    #[error("{0}")]
    Refused(String),
}

impl From<Status> for AdminError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented => {
                Self::Refused(status.message().to_owned())
            }
            _ => Self::Unavailable(format!("{}: {}", status.code(), status.message())),
        }
    }
}

/// The brokers of one cluster.
pub(crate) struct BrokerAdmin {
    cluster_id: String,
    authorization: MetadataValue<Ascii>,
    voters: Vec<i32>,
    /// gRPC address by broker id.
    addresses: BTreeMap<i32, String>,
}

impl BrokerAdmin {
    /// The brokers that the status records, or why they cannot be asked.
    pub(crate) fn new(cluster: &KafkaCluster, token: Option<&str>) -> Result<Self, String> {
        let status = cluster.status.as_ref();
        let recorded = status.and_then(|status| Some((status, status.cluster_id.clone()?)));
        let Some((status, cluster_id)) = recorded else {
            return Err("the cluster has not been made yet".to_owned());
        };
        let token = token.ok_or("the token of the brokers does not exist yet")?;
        let authorization = format!("Bearer {token}")
            .parse()
            .map_err(|_| "the token of the brokers is not text".to_owned())?;
        let name = cluster.metadata.name.as_deref().unwrap_or_default();
        let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
        let address = |id: i32, pool: &str| {
            let host = naming::host(name, namespace, pool, id);
            format!("http://{host}:{}", naming::RPC_PORT)
        };
        Ok(Self {
            cluster_id,
            authorization,
            voters: status.voters.clone(),
            addresses: status
                .brokers
                .iter()
                .map(|broker| (broker.id, address(broker.id, &broker.pool)))
                .collect(),
        })
    }

    /// Asks all voters; the newest answer counts, if a majority answered. A minority may not know
    /// yet what the others have committed.
    pub(crate) async fn describe_cluster(&self) -> Admin {
        let answers = join_all(self.voters.iter().map(|id| self.describe_at(*id))).await;
        let (answers, errors): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let answered = answers.len();
        let newest = answers
            .into_iter()
            .filter_map(Result::ok)
            .filter(|answer| answer.cluster_id == self.cluster_id)
            .max_by_key(|answer| (answer.controller_epoch, answer.metadata_offset));
        match newest {
            Some(newest) if answered * 2 > self.voters.len() => Admin::Answered(facts(newest)),
            Some(_) | None => {
                let why = errors
                    .into_iter()
                    .find_map(Result::err)
                    .map(|error| error.to_string());
                Admin::Unreachable(format!(
                    "{answered} of {} voters answered{}",
                    self.voters.len(),
                    why.map(|why| format!(" ({why})")).unwrap_or_default()
                ))
            }
        }
    }

    async fn describe_at(&self, id: i32) -> Result<ClusterDescription, AdminError> {
        let mut client = self.client(id, READ_TIMEOUT)?;
        let answer = client
            .describe_cluster(self.request(DescribeClusterRequest::default()))
            .await?;
        Ok(answer.into_inner())
    }

    /// The topic as that broker knows it.
    pub(crate) async fn describe_topic(
        &self,
        broker_id: i32,
        name: &str,
    ) -> Result<Option<LiveTopic>, AdminError> {
        let mut client = self.client(broker_id, READ_TIMEOUT)?;
        let request = DescribeTopicsRequest {
            names: vec![name.to_owned()],
        };
        let answer = client
            .describe_topics(self.request(request))
            .await?
            .into_inner();
        Ok(answer
            .topics
            .into_iter()
            .find(|topic| topic.name == name)
            .map(live_topic))
    }

    /// The id of the new topic.
    pub(crate) async fn create_topic(
        &self,
        broker_id: i32,
        name: &str,
        assignments: &[Vec<i32>],
        config: &BTreeMap<String, String>,
    ) -> Result<String, AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = CreateTopicRequest {
            name: name.to_owned(),
            assignments: replica_assignments(assignments),
            config: config.clone().into_iter().collect(),
        };
        Ok(client
            .create_topic(self.request(request))
            .await?
            .into_inner()
            .topic_id)
    }

    pub(crate) async fn alter_topic(
        &self,
        broker_id: i32,
        request: AlterTopicRequest,
    ) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        client.alter_topic(self.request(request)).await?;
        Ok(())
    }

    /// A topic that is gone is fine.
    pub(crate) async fn delete_topic(
        &self,
        broker_id: i32,
        name: &str,
        topic_id: &str,
    ) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = DeleteTopicRequest {
            name: name.to_owned(),
            topic_id: topic_id.to_owned(),
        };
        match client.delete_topic(self.request(request)).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(status.into()),
        }
    }

    fn client(&self, id: i32, timeout: Duration) -> Result<AdminClient<Channel>, AdminError> {
        let address = self
            .addresses
            .get(&id)
            .ok_or_else(|| AdminError::Unavailable(format!("broker {id} is not recorded")))?;
        let endpoint = Endpoint::from_shared(address.clone())
            .map_err(|error| AdminError::Unavailable(error.to_string()))?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(timeout);
        Ok(AdminClient::new(endpoint.connect_lazy()))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.authorization.clone());
        request
    }
}

pub(crate) fn replica_assignments(assignments: &[Vec<i32>]) -> Vec<ReplicaAssignment> {
    assignments
        .iter()
        .map(|replicas| ReplicaAssignment {
            replicas: replicas.clone(),
        })
        .collect()
}

fn facts(description: ClusterDescription) -> ClusterFacts {
    use klamm_proto::v1::BrokerState as Described;
    let brokers = description.brokers.into_iter().map(|broker| {
        let state = match broker.state() {
            Described::Serving | Described::CatchingUp => BrokerState::Serving,
            Described::Draining => BrokerState::Draining,
            Described::Unspecified | Described::Fenced => BrokerState::Fenced,
        };
        let rack = Some(broker.rack).filter(|rack| !rack.is_empty());
        let (replicas, leaders) = (broker.replicas, broker.leaders);
        (
            broker.id,
            BrokerFacts {
                state,
                rack,
                replicas,
                leaders,
            },
        )
    });
    ClusterFacts {
        controller_id: Some(description.controller_id).filter(|id| *id >= 0),
        brokers: brokers.collect(),
        offline_partitions: description.offline_partitions,
        under_replicated_partitions: description.under_replicated_partitions,
        under_min_isr_partitions: description.under_min_isr_partitions,
    }
}

fn live_topic(mut topic: TopicDescription) -> LiveTopic {
    topic
        .partitions
        .sort_by_key(|partition| partition.partition);
    LiveTopic {
        topic_id: topic.topic_id,
        offline_partitions: topic.partitions.iter().filter(|p| p.leader < 0).count(),
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| partition.replicas)
            .collect(),
        config: topic.config.into_iter().collect(),
    }
}
