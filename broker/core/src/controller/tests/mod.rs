//! Decisions, driven through [`decide`] as the shell does it.

mod client_quotas;
mod election;
mod evacuation;
mod features;
mod many_partitions;
mod operator_epoch;
mod properties;
mod reassignment;
mod rebalance;
mod refusals;
mod replacement;
mod restart;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::metadata::{self, Endpoint, ResourceType, lint};
use crate::{BrokerEpoch, BrokerId, TopicId};

struct Table;

impl ConfigTable for Table {
    fn validate(&self, _: ResourceType, key: &str, value: &str) -> Result<(), String> {
        match key {
            "min.insync.replicas" if value.parse::<u32>().is_ok_and(|value| value > 0) => Ok(()),
            "unclean.leader.election.enable" if matches!(value, "true" | "false") => Ok(()),
            "cleanup.policy" if value.split(',').all(|p| matches!(p, "delete" | "compact")) => {
                Ok(())
            }
            _ => Err(alloc::format!("{key}={value} is not a setting")),
        }
    }

    fn list_default(&self, _: ResourceType, key: &str) -> Option<String> {
        (key == "cleanup.policy").then(|| "delete".to_string())
    }
}

/// The first available brokers, for every partition the same.
fn place(request: &PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> {
    let available = request.brokers.iter().filter(|broker| broker.available);
    let replicas: Vec<BrokerId> = available
        .map(|broker| broker.id)
        .take(request.replication_factor)
        .collect();
    if replicas.len() < request.replication_factor {
        return Err("too few brokers".to_string());
    }
    Ok(vec![replicas; request.partitions])
}

/// How a broker's run ended.
#[derive(Clone, Copy)]
enum Stop {
    Clean,
    Crash,
    /// Its disks are lost.
    Wipe,
}

/// What the disks of a broker say about its last run: the epoch of a clean stop, the epoch.
type LastRun = (i64, i64);
const NO_LAST_RUN: LastRun = (-1, -1);

/// A cluster that commits at once.
#[derive(Clone)]
struct Cluster {
    image: Image,
    /// Brings each decision's records to a second image, over their encoding.
    follower: Image,
    topics_made: u8,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            image: Image::default(),
            follower: Image::default(),
            topics_made: 0,
        };
        let features = BTreeMap::from([("metadata.version".to_string(), 1)]);
        let cluster_id = "klamm".to_string();
        cluster.submit(Command::InitializeCluster(InitializeCluster {
            cluster_id,
            features,
        }));
        cluster
    }

    /// The broker says the same of all its replicas.
    fn set_health(&mut self, broker: i32, health: metadata::ReplicaHealth) -> Response {
        let hosted = self.image.partitions();
        let replicas = hosted
            .filter(|(_, state)| state.has_replica(BrokerId(broker)))
            .map(|(id, _)| ReplicaHealthChange {
                partition: PartitionRef {
                    topic_id: id.topic.into(),
                    partition: id.partition.0,
                },
                health: health.into(),
            });
        let replicas = replicas.collect();
        let broker = self.broker(broker);
        self.submit(Command::AlterReplicaHealth(AlterReplicaHealth {
            broker,
            replicas,
        }))
    }

    /// With live brokers 1 to `brokers`.
    fn with_brokers(brokers: i32) -> Self {
        let mut cluster = Self::new();
        for id in 1..=brokers {
            cluster.register(id, NO_LAST_RUN);
            cluster.submit(Command::UnfenceBroker(cluster.broker(id)));
        }
        cluster
    }

    fn submit(&mut self, command: Command) -> Response {
        loop {
            let decision = self.decide(&command);
            if !decision.unfinished {
                return decision.response;
            }
        }
    }

    /// One decision, whether the command is done with it or not.
    fn decide(&mut self, command: &Command) -> Decision {
        let command = Command::from_bytes(&command.to_bytes()).unwrap();
        let mut new_topic_id = || {
            self.topics_made += 1;
            TopicId([self.topics_made; 16])
        };
        let mut context = Context {
            defaults: Defaults {
                num_partitions: 2,
                replication_factor: 3,
                min_insync_replicas: 1,
                unclean_leader_election: false,
            },
            new_topic_id: &mut new_topic_id,
            place: &place,
            config_table: &Table,
        };
        let decision = decide(&self.image, &mut context, &command);
        for record in &decision.records {
            self.image.apply(record).unwrap();
            let decoded = Record::from_bytes(&record.to_bytes()).unwrap();
            self.follower.apply(&decoded).unwrap();
        }
        assert_eq!(lint(&self.image), [], "after {command:?}");
        assert_eq!(self.image, self.follower);
        let response = Response::from_bytes(&decision.response.to_bytes()).unwrap();
        assert_eq!(response, decision.response);
        decision
    }

    /// The broker under its current epoch.
    fn broker(&self, broker_id: i32) -> BrokerRef {
        let epoch = self
            .image
            .brokers
            .get(&BrokerId(broker_id))
            .map_or(-1, |broker| broker.epoch.0);
        BrokerRef {
            broker_id,
            broker_epoch: epoch,
        }
    }

    fn stopped(&self, broker_id: i32, stop: Stop) -> LastRun {
        let epoch = self.broker(broker_id).broker_epoch;
        match stop {
            Stop::Clean => (epoch, epoch),
            Stop::Crash => (-1, epoch),
            Stop::Wipe => NO_LAST_RUN,
        }
    }

    fn register(&mut self, broker_id: i32, last_run: LastRun) -> Response {
        self.submit(self.registration(broker_id, last_run))
    }

    fn registration(&self, broker_id: i32, last_run: LastRun) -> Command {
        let (previous_broker_epoch, disks_broker_epoch) = last_run;
        let incarnation = self.image.last_broker_epoch.to_string();
        let endpoint = Endpoint {
            listener: "PLAIN".to_string(),
            host: "localhost".to_string(),
            port: 9092,
        };
        Command::RegisterBroker(Box::new(RegisterBroker {
            cluster_id: "klamm".to_string(),
            registration: metadata::RegisterBroker {
                broker_id,
                broker_epoch: 0,
                incarnation,
                version: "1".to_string(),
                rack: None,
                endpoints: vec![endpoint],
                rpc_host: "localhost".to_string(),
                rpc_port: 9093,
                started_at_ms: 0,
                config_hash: String::new(),
                metadata_directory_id: None,
                features: vec![metadata::FeatureRange {
                    name: "metadata.version".to_string(),
                    min_level: 1,
                    max_level: 2,
                }],
                disks_broker_epoch: None,
            },
            previous_broker_epoch,
            disks_broker_epoch,
        }))
    }

    /// Creates a topic with one partition on these brokers.
    fn create(&mut self, name: &str, replicas: &[i32], configs: &[(&str, &str)]) -> Response {
        self.submit(Command::CreateTopics(CreateTopics {
            topics: vec![NewTopic {
                assignments: vec![Assignment {
                    partition: 0,
                    replicas: replicas.to_vec(),
                }],
                configs: configs
                    .iter()
                    .map(|(k, v)| (k.to_string(), v.to_string()))
                    .collect(),
                ..new_topic(name, -1, -1)
            }],
            validate_only: false,
        }))
    }

    fn set_config(&mut self, topic: &str, key: &str, op: ConfigOpType, value: &str) -> Response {
        self.submit(Command::AlterConfigs(AlterConfigs {
            resources: vec![ConfigResource {
                resource_type: ResourceType::Topic.into(),
                name: topic.to_string(),
                mode: AlterMode::Incremental.into(),
                ops: vec![ConfigOp {
                    key: key.to_string(),
                    op: op.into(),
                    value: Some(value.to_string()),
                }],
            }],
            validate_only: false,
        }))
    }

    /// Moves partition 0 to `target`; `None` gives up.
    fn reassign(&mut self, topic: &str, target: Option<&[i32]>) -> Response {
        let topic = self.image.topic_by_name(topic).unwrap();
        let partition = PartitionRef {
            topic_id: topic.id.into(),
            partition: 0,
        };
        let target = target.map(|replicas| TargetReplicas {
            replicas: replicas.to_vec(),
        });
        self.submit(Command::AlterReassignments(AlterReassignments {
            partitions: vec![Reassignment { partition, target }],
            keep_replication_factor: false,
            replaces_dead: false,
            rebalances: false,
        }))
    }

    /// The leader of partition 0 proposes an ISR, as far as there is a leader.
    fn alter_isr(&mut self, topic: &str, isr: &[i32]) -> Option<Response> {
        let (topic_id, state) = {
            let topic = self.image.topic_by_name(topic)?;
            (topic.id, topic.partitions[0].clone())
        };
        let leader = self.broker(state.leader?.0);
        Some(self.submit(Command::AlterPartitions(AlterPartitions {
            leader,
            partitions: vec![AlterPartition {
                topic_id: topic_id.into(),
                partition: 0,
                leader_epoch: state.leader_epoch.0,
                partition_epoch: state.partition_epoch.0,
                new_isr: isr.iter().map(|id| self.broker(*id)).collect(),
            }],
        })))
    }
}

fn new_topic(name: &str, num_partitions: i32, replication_factor: i32) -> NewTopic {
    NewTopic {
        name: name.to_string(),
        num_partitions,
        replication_factor,
        assignments: Vec::new(),
        configs: BTreeMap::new(),
    }
}

/// The kind of the first failure in a response.
fn failure(response: &Response) -> Option<CommandError> {
    let first = match response {
        Response::Failed(failure) => Some(failure),
        Response::CreateTopics(r) => r.topics.iter().find_map(|one| one.failure.as_ref()),
        Response::DeleteTopics(r) => r.topics.iter().find_map(|one| one.failure.as_ref()),
        Response::CreatePartitions(r) => r.topics.iter().find_map(|one| one.failure.as_ref()),
        Response::AlterConfigs(r) => r.resources.iter().find_map(|one| one.failure.as_ref()),
        Response::AlterPartitions(r) => r.partitions.iter().find_map(|one| one.failure.as_ref()),
        Response::ElectLeaders(r) => r.partitions.iter().find_map(|one| one.failure.as_ref()),
        Response::AlterReassignments(r) => r.partitions.iter().find_map(|one| one.failure.as_ref()),
        _ => None,
    };
    first.map(Failure::error)
}
