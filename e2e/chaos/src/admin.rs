//! What the harness asks of the cluster by gRPC: topics for the workload, who leads and who
//! controls.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::{
    AddLearnerRequest, CancelDrainRequest, ClusterDescription, CreateTopicRequest,
    DeleteTopicRequest, DescribeClusterRequest, DescribeQuorumRequest, DescribeTopicsRequest,
    DrainStatusRequest, DrainStatusResponse, PromoteVoterRequest, QuorumDescription,
    RemoveVoterRequest, ReplicaAssignment, StartDrainRequest, TopicDescription,
};
use tokio::runtime::Runtime;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::broker::RPC_PORT;
use crate::network::Host;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Of calls that are made while something is broken.
const FAULT_CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks one broker after the other until one answers.
pub(crate) struct Admin {
    runtime: Runtime,
    authorization: MetadataValue<Ascii>,
    brokers: u16,
}

impl Admin {
    /// # Errors
    /// When no runtime can be made.
    pub(crate) fn new(token: &str, brokers: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            runtime,
            authorization: format!("Bearer {token}").parse()?,
            brokers,
        })
    }

    /// # Errors
    /// When no broker answers.
    pub(crate) fn describe_cluster(&self) -> Result<ClusterDescription> {
        self.ask(async |mut client: Client| {
            client
                .describe_cluster(DescribeClusterRequest::default())
                .await
        })
    }

    /// The broker of the active controller, if there is one and it is known.
    pub(crate) fn controller(&self) -> Option<u16> {
        let description = self.describe_cluster().ok()?;
        u16::try_from(description.controller_id).ok()
    }

    /// # Errors
    /// When no broker answers.
    pub(crate) fn describe_topics(&self, names: &[String]) -> Result<Vec<TopicDescription>> {
        let response = self.ask(async |mut client: Client| {
            let names = names.to_vec();
            let request = DescribeTopicsRequest { names };
            client.describe_topics(request).await
        })?;
        Ok(response.topics)
    }

    /// Creates a topic with three replicas of each partition; one that is there is as good.
    ///
    /// # Errors
    /// When no broker answers, or the cluster refuses it.
    pub(crate) fn create_topic(
        &self,
        name: &str,
        partitions: u16,
        config: &[(&str, &str)],
    ) -> Result<()> {
        let replicas = |partition| (0..3).map(move |nth| i32::from((partition + nth) % 5));
        let assignments: Vec<_> = (0..partitions)
            .map(|partition| ReplicaAssignment {
                replicas: replicas(partition).collect(),
            })
            .collect();
        let pairs = config.iter();
        let config: HashMap<_, _> = pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let outcome = self.ask(async |mut client: Client| {
            let request = CreateTopicRequest {
                name: name.to_owned(),
                assignments: assignments.clone(),
                config: config.clone(),
            };
            match client.create_topic(request).await {
                Err(status) if status.code() == tonic::Code::AlreadyExists => {
                    Ok(tonic::Response::new(TopicDescription::default()))
                }
                outcome => outcome,
            }
        });
        outcome.map(drop)
    }

    /// # Errors
    /// When no broker answers, or the cluster refuses it.
    pub(crate) fn delete_topic(&self, topic: &TopicDescription) -> Result<()> {
        let outcome = self.ask(async |mut client: Client| {
            let request = DeleteTopicRequest {
                name: topic.name.clone(),
                topic_id: topic.topic_id.clone(),
            };
            client.delete_topic(request).await
        });
        outcome.map(drop)
    }

    /// # Errors
    /// When no broker answers, or the cluster refuses it.
    pub(crate) fn start_drain(&self, broker: u16) -> Result<()> {
        let broker = i32::from(broker);
        let outcome = self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            client.start_drain(StartDrainRequest { broker }).await
        });
        outcome.map(drop)
    }

    /// # Errors
    /// When no broker answers, or the cluster refuses it.
    pub(crate) fn cancel_drain(&self, broker: u16) -> Result<()> {
        let broker = i32::from(broker);
        let outcome = self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            client.cancel_drain(CancelDrainRequest { broker }).await
        });
        outcome.map(drop)
    }

    /// # Errors
    /// When the controller does not answer.
    pub(crate) fn drain_status(&self, broker: u16) -> Result<DrainStatusResponse> {
        let broker = i32::from(broker);
        self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            client.drain_status(DrainStatusRequest { broker }).await
        })
    }

    /// # Errors
    /// When the controller does not answer.
    pub(crate) fn describe_quorum(&self) -> Result<QuorumDescription> {
        self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            client.describe_quorum(DescribeQuorumRequest {}).await
        })
    }

    /// # Errors
    /// When the controller does not answer, or refuses it.
    pub(crate) fn add_learner(&self, broker_id: i32) -> Result<QuorumDescription> {
        self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            let directory_id = String::new();
            let request = AddLearnerRequest {
                broker_id,
                directory_id,
            };
            client.add_learner(request).await
        })
    }

    /// # Errors
    /// When the controller does not answer, or refuses it.
    pub(crate) fn promote_voter(&self, broker_id: i32) -> Result<QuorumDescription> {
        self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            let directory_id = String::new();
            let request = PromoteVoterRequest {
                broker_id,
                directory_id,
            };
            client.promote_voter(request).await
        })
    }

    /// # Errors
    /// When the controller does not answer, or refuses it.
    pub(crate) fn remove_voter(&self, broker_id: i32) -> Result<QuorumDescription> {
        self.ask_within(FAULT_CALL_TIMEOUT, async |mut client: Client| {
            let directory_id = String::new();
            let request = RemoveVoterRequest {
                broker_id,
                directory_id,
            };
            client.remove_voter(request).await
        })
    }

    fn ask<T>(
        &self,
        call: impl AsyncFn(Client) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T> {
        self.ask_within(CALL_TIMEOUT, call)
    }

    /// Calls one broker after the other, until one of them answers.
    fn ask_within<T>(
        &self,
        limit: Duration,
        call: impl AsyncFn(Client) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T> {
        let mut last = anyhow!("there are no brokers");
        for id in 0..self.brokers {
            let address = Host::Broker(id).address();
            let outcome = self.runtime.block_on(async {
                let endpoint = Endpoint::from_shared(format!("http://{address}:{RPC_PORT}"))?;
                let endpoint = endpoint.connect_timeout(limit).timeout(limit);
                let channel = endpoint.connect().await?;
                let authorize = Authorize(self.authorization.clone());
                let client = AdminClient::with_interceptor(channel, authorize);
                Ok::<_, anyhow::Error>(call(client).await?.into_inner())
            });
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last).context("no broker answered as wanted, the last one")
    }
}

type Client = AdminClient<InterceptedService<Channel, Authorize>>;

/// Adds the cluster's token to a call.
#[derive(Clone)]
struct Authorize(MetadataValue<Ascii>);

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.0.clone());
        Ok(request)
    }
}
