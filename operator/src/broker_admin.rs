//! gRPC client for the brokers' Admin service. Every call has a time-out; what cannot be asked is
//! reported as unknown, never guessed.

mod scale;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, select_ok};
use jiff::Timestamp;
use klamm_crds::KafkaCluster;
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::{
    AlterTopicRequest, ApplyConfigRequest, BrokerDescription, CheckRestartRequest,
    ClusterDescription, ConfigVerdict, CreateTopicRequest, DeleteTopicRequest,
    DescribeClusterRequest, DescribeTopicsRequest, PrepareRestartRequest, ReplicaAssignment,
    RestartBlocker, RestorePreferredLeadersRequest, TopicDescription, TransferLeadershipRequest,
    ValidateConfigRequest,
};
use operator_plan::dynamic_config::ConfigChange;
use operator_plan::naming;
use operator_plan::observed::{
    Admin, Blocker, BlockerReason, BrokerFacts, BrokerState, ClusterFacts, ConfigVerdicts,
    KeyVerdict, RestartVerdict,
};
use operator_plan::topic::LiveTopic;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Tells brokers which operator asks for a change.
const OPERATOR_EPOCH_KEY: &str = "klamm-operator-epoch";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const READ_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for which a broker leads nothing before its restart. It is renewed by every pass that still
/// wants the restart, and ends by itself where the restart does not come.
const RESTART_LEASE_MS: u64 = 60_000;
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
    operator_epoch: u64,
    voters: Vec<i32>,
    /// gRPC address by broker id.
    addresses: BTreeMap<i32, String>,
}

impl BrokerAdmin {
    /// The brokers that the status records, or why they cannot be asked.
    pub(crate) fn new(
        cluster: &KafkaCluster,
        token: Option<&str>,
        operator_epoch: u64,
    ) -> Result<Self, String> {
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
            operator_epoch,
            voters: status.voters.clone(),
            addresses: status
                .brokers
                .iter()
                .map(|broker| (broker.id, address(broker.id, &broker.pool)))
                .collect(),
        })
    }

    /// The active controller's answer, through whichever broker is the first to bring it. Without
    /// one, all voters are asked what they know; the newest answer counts, if a majority answered: a
    /// minority may not know yet what the others have committed.
    pub(crate) async fn describe_cluster(&self) -> Admin {
        let confirmed = self
            .first_answer(|id| self.describe_at(id, DescribeFrom::Controller))
            .await;
        if let Ok(answer) = confirmed
            && answer.cluster_id == self.cluster_id
        {
            return Admin::Answered(facts(answer, DescribeFrom::Controller));
        }
        let ask = |id: &i32| self.describe_at(*id, DescribeFrom::Anybody);
        let answers = join_all(self.voters.iter().map(ask)).await;
        let (answers, errors): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        let answered = answers.len();
        let newest = answers
            .into_iter()
            .filter_map(Result::ok)
            .filter(|answer| answer.cluster_id == self.cluster_id)
            .max_by_key(|answer| (answer.controller_epoch, answer.metadata_offset));
        match newest {
            Some(newest) if answered * 2 > self.voters.len() => {
                Admin::Answered(facts(newest, DescribeFrom::Anybody))
            }
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

    /// Asks the voters together; the first answer counts, or else the last refusal.
    async fn first_answer<T, F>(&self, ask: impl Fn(i32) -> F) -> Result<T, AdminError>
    where
        F: Future<Output = Result<T, AdminError>>,
    {
        let calls = self.voters.iter().map(|id| Box::pin(ask(*id)));
        let calls: Vec<_> = calls.collect();
        if calls.is_empty() {
            return Err(AdminError::Unavailable("there are no voters".to_owned()));
        }
        select_ok(calls).await.map(|(answer, _)| answer)
    }

    /// Whether the broker may stop now; every failure is a no.
    pub(crate) async fn check_restart(&self, broker_id: i32) -> RestartVerdict {
        let request = CheckRestartRequest {
            brokers: vec![broker_id],
        };
        let asked = self.first_answer(|id| {
            let request = self.request(request.clone());
            async move {
                let mut client = self.client(id, READ_TIMEOUT)?;
                Ok(client.check_restart(request).await?.into_inner())
            }
        });
        match asked.await {
            Ok(answer) if answer.safe => RestartVerdict::Safe,
            Ok(answer) => RestartVerdict::Unsafe {
                blockers: answer.blockers.into_iter().map(blocker).collect(),
                total: answer.blockers_total,
            },
            Err(error) => RestartVerdict::Unknown(error.to_string()),
        }
    }

    /// What would become of the properties.
    pub(crate) async fn validate_config(
        &self,
        properties: BTreeMap<String, String>,
    ) -> ConfigVerdicts {
        let request = ValidateConfigRequest {
            broker: None,
            properties: properties.into_iter().collect(),
        };
        let asked = self.first_answer(|id| {
            let request = self.request(request.clone());
            async move {
                let mut client = self.client(id, READ_TIMEOUT)?;
                Ok(client.validate_config(request).await?.into_inner())
            }
        });
        match asked.await {
            Ok(answer) => ConfigVerdicts::Known(answer.verdicts.into_iter().map(told).collect()),
            Err(error) => ConfigVerdicts::Unknown(error.to_string()),
        }
    }

    /// Settings for all brokers, which take them while they run.
    pub(crate) async fn apply_config(
        &self,
        broker_id: i32,
        change: &ConfigChange,
    ) -> Result<(), AdminError> {
        let request = ApplyConfigRequest {
            broker: None,
            set_config: change.set.clone().into_iter().collect(),
            reset_config: change.reset.clone(),
        };
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        client.apply_config(self.change(request)).await?;
        Ok(())
    }

    /// Has the leaders of `broker` move away, for as long as a pod takes to be replaced.
    pub(crate) async fn prepare_restart(
        &self,
        broker_id: i32,
        broker: i32,
        incarnation: &str,
    ) -> Result<(), AdminError> {
        let request = PrepareRestartRequest {
            broker,
            incarnation: incarnation.to_owned(),
            ttl_ms: RESTART_LEASE_MS,
        };
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        client.prepare_restart(self.change(request)).await?;
        Ok(())
    }

    /// The voter whose log is the longest becomes the active controller.
    pub(crate) async fn transfer_controller(&self, broker_id: i32) -> Result<(), AdminError> {
        let request = TransferLeadershipRequest { broker_id: None };
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        client.transfer_leadership(self.change(request)).await?;
        Ok(())
    }

    pub(crate) async fn restore_leaders(&self, broker_id: i32) -> Result<(), AdminError> {
        let mut client = self.client(broker_id, CHANGE_TIMEOUT)?;
        let request = self.change(RestorePreferredLeadersRequest {});
        client.restore_preferred_leaders(request).await?;
        Ok(())
    }

    async fn describe_at(
        &self,
        id: i32,
        from: DescribeFrom,
    ) -> Result<ClusterDescription, AdminError> {
        let mut client = self.client(id, READ_TIMEOUT)?;
        let request = DescribeClusterRequest {
            from_controller: from == DescribeFrom::Controller,
        };
        Ok(client
            .describe_cluster(self.request(request))
            .await?
            .into_inner())
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
            .create_topic(self.change(request))
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
        client.alter_topic(self.change(request)).await?;
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
        match client.delete_topic(self.change(request)).await {
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

    /// A request to change something, which brokers refuse once another operator has taken over.
    fn change<T>(&self, message: T) -> Request<T> {
        let mut request = self.request(message);
        let epoch = MetadataValue::from(self.operator_epoch);
        request.metadata_mut().insert(OPERATOR_EPOCH_KEY, epoch);
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

/// Who answers DescribeCluster.
#[derive(Clone, Copy, Eq, PartialEq)]
enum DescribeFrom {
    /// The active controller, while a majority of the voters follows it.
    Controller,
    /// The broker that is asked.
    Anybody,
}

fn facts(description: ClusterDescription, from: DescribeFrom) -> ClusterFacts {
    let brokers = description.brokers.into_iter();
    ClusterFacts {
        confirmed: from == DescribeFrom::Controller,
        controller_id: Some(description.controller_id).filter(|id| *id >= 0),
        voters: description.voters,
        brokers: brokers.map(broker_facts).collect(),
        offline_partitions: description.offline_partitions,
        under_replicated_partitions: description.under_replicated_partitions,
        under_min_isr_partitions: description.under_min_isr_partitions,
        rebalancing: description.rebalancing,
        dynamic_config: description.dynamic_config.into_iter().collect(),
    }
}

fn broker_facts(broker: BrokerDescription) -> (i32, BrokerFacts) {
    use klamm_proto::v1::BrokerState as Described;
    let state = match broker.state() {
        Described::Serving => BrokerState::Serving,
        Described::CatchingUp => BrokerState::CatchingUp,
        Described::Draining => BrokerState::Draining,
        Described::Unspecified | Described::Fenced => BrokerState::Fenced,
    };
    let started_at = Some(broker.started_at_ms).filter(|at| *at > 0);
    let facts = BrokerFacts {
        state,
        incarnation: broker.incarnation,
        started_at: started_at.and_then(|at| Timestamp::from_millisecond(at).ok()),
        rack: Some(broker.rack).filter(|rack| !rack.is_empty()),
        replicas: broker.replicas,
        in_sync: broker.in_sync,
        leaders: broker.leaders,
        preferred: broker.preferred,
        preferred_led: broker.preferred_led,
        cordoned: broker.cordoned,
        drain: broker.drain,
    };
    (broker.id, facts)
}

fn blocker(blocker: RestartBlocker) -> Blocker {
    use klamm_proto::v1::restart_blocker::Reason;
    let reason = match blocker.reason() {
        Reason::BelowMinIsr => BlockerReason::BelowMinIsr,
        Reason::Unavailable => BlockerReason::Unavailable,
        Reason::QuorumLoss => BlockerReason::QuorumLoss,
        Reason::NotCaughtUp => BlockerReason::NotCaughtUp,
        Reason::Unspecified => BlockerReason::Other,
    };
    let partition = (blocker.partition >= 0).then_some((blocker.topic, blocker.partition));
    Blocker { partition, reason }
}

fn told(told: ConfigVerdict) -> (String, KeyVerdict) {
    use klamm_proto::v1::config_verdict::Verdict;
    let verdict = match told.verdict() {
        Verdict::Dynamic => KeyVerdict::Dynamic,
        Verdict::NeedsRestart | Verdict::Unspecified => KeyVerdict::NeedsRestart,
        Verdict::Unknown | Verdict::Invalid => KeyVerdict::Refused(told.reason),
    };
    (told.key, verdict)
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
