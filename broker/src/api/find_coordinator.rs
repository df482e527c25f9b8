//! FindCoordinator: the broker that coordinates a group. The first one that asks has
//! `__consumer_offsets` made.

use std::collections::BTreeMap;

use broker_core::BrokerId;
use broker_core::controller::{Command, CreateTopics, NewTopic, Response};
use broker_core::metadata::Image;
use broker_wire::message::find_coordinator::Coordinator;
use broker_wire::message::{FindCoordinatorRequest, FindCoordinatorResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use crate::coordinator::OFFSETS_TOPIC;

/// `CoordinatorType` of a group.
const GROUP: i8 = 0;
/// How long a client may wait for `__consumer_offsets` to be made.
const CREATION_TIMEOUT_MS: i32 = 5_000;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let mut ready = check_type(request.key_type);
    if ready.is_ok() {
        ready = create_offsets_topic(ctx).await;
    }
    let image = ctx.image();
    let find = |key: Str| {
        let found = ready.clone().and_then(|()| find(ctx, &image, info, &key));
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

/// INVALID_REQUEST is fatal to producers and shown with its message, where a retriable code would
/// have them wait for a coordinator that never comes.
fn check_type(key_type: i8) -> Result<(), Refusal> {
    match key_type {
        GROUP => Ok(()),
        1 => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "transactions are not supported",
        )),
        2 => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "share groups are not supported",
        )),
        _ => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "unknown type of coordinator",
        )),
    }
}

fn find(ctx: &Context, image: &Image, info: &RequestInfo, group: &str) -> Result<Address, Refusal> {
    let unavailable = |message| Refusal::new(ErrorCode::CoordinatorNotAvailable, message);
    let leader = image
        .topic_by_name(OFFSETS_TOPIC)
        .and_then(|topic| topic.partition(ctx.groups.find(group))?.leader)
        .and_then(|leader| image.brokers.get(&leader))
        .ok_or_else(|| unavailable("the group's partition of __consumer_offsets has no leader"))?;
    let endpoint = leader
        .endpoint(&info.listener)
        .ok_or_else(|| unavailable("the coordinator has no listener of this name"))?;
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
async fn create_offsets_topic(ctx: &Context) -> Result<(), Refusal> {
    let image = ctx.image();
    if image.topic_ids.contains_key(OFFSETS_TOPIC) {
        return Ok(());
    }
    let number = |name| i32::try_from(ctx.config.number(name)).unwrap_or(i32::MAX);
    let segment_bytes = ctx.config.number("offsets.topic.segment.bytes").to_string();
    let brokers = i32::try_from(expected_brokers(&image, &ctx.controller.voters()));
    let topic = NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        num_partitions: number("offsets.topic.num.partitions"),
        replication_factor: number("offsets.topic.replication.factor")
            .min(brokers.unwrap_or(i32::MAX)),
        assignments: Vec::new(),
        configs: BTreeMap::from([
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("segment.bytes".to_owned(), segment_bytes),
        ]),
    };
    let command = Command::CreateTopics(CreateTopics {
        topics: vec![topic],
        validate_only: false,
    });
    let deadline = deadline(CREATION_TIMEOUT_MS);
    match submit(ctx, command, deadline, refusal_of_only_topic).await {
        Ok(None) => {}
        Ok(Some(refusal)) if refusal.error_code == ErrorCode::TopicAlreadyExists => {}
        Ok(Some(refusal)) | Err(refusal) => {
            let message = format!("{OFFSETS_TOPIC} can't be created: {}", refusal.message);
            return Err(Refusal::new(ErrorCode::CoordinatorNotAvailable, message));
        }
    }
    until_shown(ctx, deadline, |image| {
        image.topic_ids.contains_key(OFFSETS_TOPIC)
    })
    .await;
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
    fn only_groups_have_coordinators() {
        assert!(check_type(GROUP).is_ok());
        for key_type in [1, 2, 3, -1] {
            let refusal = check_type(key_type).unwrap_err();
            assert!(!refusal.error_code.retriable(), "{key_type}");
        }
    }
}
