//! FindCoordinator: the broker that coordinates a group or a transactional id. The first one that asks
//! has the topic made that they live in.

use std::collections::BTreeMap;

use broker_core::controller::{Command, CreateTopics, NewTopic, Response};
use broker_core::metadata::Image;
use broker_core::{BrokerId, PartitionIndex};
use broker_wire::message::find_coordinator::Coordinator;
use broker_wire::message::{FindCoordinatorRequest, FindCoordinatorResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use crate::config::BrokerConfig;
use crate::coordinator::OFFSETS_TOPIC;
use crate::transaction::TRANSACTIONS_TOPIC;

/// How long a client may wait for the topic to be made.
const CREATION_TIMEOUT_MS: i32 = 5_000;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let kind = match Kind::of(request.key_type) {
        Ok(kind) => create_topic(ctx, kind).await.map(|()| kind),
        refused => refused,
    };
    let image = ctx.image();
    let find = |key: Str| {
        let found = kind.clone().and_then(|kind| {
            let partition = kind.partition(ctx, &key);
            find(&image, info, kind.topic(), partition)
        });
        coordinator(key, found)
    };
    if info.version >= 4 {
        let coordinators = request.coordinator_keys.into_iter().map(find).collect();
        return FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
    }
    let Coordinator {
        node_id,
        host,
        port,
        error_code,
        error_message,
        ..
    } = find(request.key);
    FindCoordinatorResponse {
        error_code,
        error_message,
        node_id,
        host,
        port,
        ..FindCoordinatorResponse::default()
    }
}

struct Address {
    node_id: i32,
    host: String,
    port: i32,
}

/// What has a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Group,
    TransactionalId,
}

impl Kind {
    /// INVALID_REQUEST is fatal to clients and shown with its message, where a retriable code would
    /// have them wait for a coordinator that never comes.
    fn of(key_type: i8) -> Result<Self, Refusal> {
        let refuse = |message| Err(Refusal::new(ErrorCode::InvalidRequest, message));
        match key_type {
            0 => Ok(Self::Group),
            1 => Ok(Self::TransactionalId),
            2 => refuse("share groups are not supported"),
            _ => refuse("unknown type of coordinator"),
        }
    }

    const fn topic(self) -> &'static str {
        match self {
            Self::Group => OFFSETS_TOPIC,
            Self::TransactionalId => TRANSACTIONS_TOPIC,
        }
    }

    /// The partition whose leader coordinates `key`.
    fn partition(self, ctx: &Context, key: &str) -> PartitionIndex {
        match self {
            Self::Group => ctx.groups.find(key),
            Self::TransactionalId => ctx.transactions.find(key),
        }
    }

    /// The topic to be made for at most so many replicas.
    fn new_topic(self, config: &BrokerConfig, replicas_max: i32) -> NewTopic {
        let keys = match self {
            Self::Group => &GROUP_KEYS,
            Self::TransactionalId => &TRANSACTION_KEYS,
        };
        let number = |name| i32::try_from(config.number(name)).unwrap_or(i32::MAX);
        let mut configs = BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            (
                "segment.bytes".to_owned(),
                config.number(keys.segment_bytes).to_string(),
            ),
        ]);
        if let Some(min_insync_replicas) = keys.min_insync_replicas {
            let value = config.number(min_insync_replicas).to_string();
            configs.insert("min.insync.replicas".to_owned(), value);
        }
        NewTopic {
            name: self.topic().to_owned(),
            num_partitions: number(keys.partitions),
            replication_factor: number(keys.replication_factor).min(replicas_max),
            assignments: Vec::new(),
            configs,
        }
    }
}

/// Configuration keys of a coordinator's topic.
struct TopicKeys {
    partitions: &'static str,
    replication_factor: &'static str,
    segment_bytes: &'static str,
    min_insync_replicas: Option<&'static str>,
}

const GROUP_KEYS: TopicKeys = TopicKeys {
    partitions: "offsets.topic.num.partitions",
    replication_factor: "offsets.topic.replication.factor",
    segment_bytes: "offsets.topic.segment.bytes",
    min_insync_replicas: None,
};
const TRANSACTION_KEYS: TopicKeys = TopicKeys {
    partitions: "transaction.state.log.num.partitions",
    replication_factor: "transaction.state.log.replication.factor",
    segment_bytes: "transaction.state.log.segment.bytes",
    min_insync_replicas: Some("transaction.state.log.min.isr"),
};

fn find(
    image: &Image,
    info: &RequestInfo,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Address, Refusal> {
    let unavailable = |message: String| Refusal::new(ErrorCode::CoordinatorNotAvailable, message);
    let leader = image
        .topic_by_name(topic)
        .and_then(|topic| topic.partition(partition)?.leader)
        .and_then(|leader| image.brokers.get(&leader))
        .ok_or_else(|| unavailable(format!("{topic}-{partition} has no leader")))?;
    let endpoint = leader
        .endpoint(&info.listener)
        .ok_or_else(|| unavailable("the coordinator has no listener of this name".to_owned()))?;
    let port = i32::try_from(endpoint.port).unwrap_or(-1);
    Ok(Address {
        node_id: leader.id.0,
        host: endpoint.host.clone(),
        port,
    })
}

fn coordinator(key: Str, found: Result<Address, Refusal>) -> Coordinator {
    let (address, refusal) = match found {
        Ok(address) => (address, None),
        Err(refusal) => (
            Address {
                node_id: -1,
                host: String::new(),
                port: -1,
            },
            Some(refusal),
        ),
    };
    let (error_code, error_message) = outcome(refusal);
    let Address {
        node_id,
        host,
        port,
    } = address;
    Coordinator {
        key,
        node_id,
        host: host.into(),
        port,
        error_code,
        error_message,
    }
}

/// Makes the topic unless it is there.
async fn create_topic(ctx: &Context, kind: Kind) -> Result<(), Refusal> {
    let (image, name) = (ctx.image(), kind.topic());
    if image.topic_ids.contains_key(name) {
        return Ok(());
    }
    let brokers = i32::try_from(expected_brokers(&image, &ctx.controller.voters()));
    let topic = kind.new_topic(&ctx.config, brokers.unwrap_or(i32::MAX));
    let command = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    let deadline = deadline(CREATION_TIMEOUT_MS);
    match submit(ctx, command, deadline, refusal_of_only_topic).await {
        Ok(None) => {}
        Ok(Some(refusal)) if refusal.error_code == ErrorCode::TopicAlreadyExists => {}
        Ok(Some(refusal)) | Err(refusal) => {
            let message = format!("{name} can't be created: {}", refusal.message);
            return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message));
        }
    }
    until_shown(ctx, deadline, |image| image.topic_ids.contains_key(name)).await;
    Ok(())
}

fn refusal_of_only_topic(response: Response) -> Option<Option<Refusal>> {
    match response {
        Response::CreateTopics(response) => Some(
            response
                .topics
                .into_iter()
                .find_map(|topic| topic.failure)
                .map(Refusal::from),
        ),
        _ => None,
    }
}

/// Brokers that will have replicas once all is up. While some are down or have yet to start, the
/// topic is not made: it would have too few replicas for good.
fn expected_brokers(image: &Image, voters: &[BrokerId]) -> usize {
    let registered = image
        .brokers
        .values()
        .filter(|broker| !broker.cordoned)
        .count();
    let to_come = voters
        .iter()
        .filter(|id| !image.brokers.contains_key(id))
        .count();
    registered + to_come
}

#[cfg(test)]
mod tests {
    use broker_core::metadata::{Record, RegisterBroker};

    use super::*;

    #[test]
    fn brokers_that_have_yet_to_start_count_as_replicas() {
        let mut image = Image::default();
        let voters = [BrokerId(1), BrokerId(2), BrokerId(3)];
        assert_eq!(expected_brokers(&image, &voters), 3);
        for broker_id in [2, 9] {
            let registration = RegisterBroker {
                broker_id,
                ..RegisterBroker::default()
            };
            image.apply(&Record::RegisterBroker(registration)).unwrap();
        }
        assert_eq!(expected_brokers(&image, &voters), 4);
        assert_eq!(expected_brokers(&image, &[BrokerId(2)]), 2);
    }

    #[test]
    fn groups_and_transactional_ids_have_coordinators() {
        assert_eq!(Kind::of(0).unwrap(), Kind::Group);
        assert_eq!(Kind::of(1).unwrap(), Kind::TransactionalId);
        for key_type in [2, 3, -1] {
            let refusal = Kind::of(key_type).unwrap_err();
            assert!(!refusal.error_code.retriable(), "{key_type}");
        }
    }
}
