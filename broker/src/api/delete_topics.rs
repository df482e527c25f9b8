//! DeleteTopics: by name, or from v6 on by id.

use broker_core::controller::{Command, DeleteTopics, Response, TopicDeleted, TopicRef};
use broker_core::metadata::Image;
use broker_wire::message::delete_topics::DeletableTopicResult;
use broker_wire::message::{DeleteTopicsRequest, DeleteTopicsResponse};
use broker_wire::{Str, Uuid};

use super::context::{Context, RequestInfo, topic_id, wire_id};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use super::mutation_quota::{Enforced, MutationQuota};

/// From this version on, clients expect to be refused what exceeds their quota (KIP-599).
const QUOTA_REFUSAL_VERSION_MIN: i16 = 5;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let deadline = deadline(request.timeout_ms);
    let image = ctx.image();
    let enforced = Enforced::of(info, QUOTA_REFUSAL_VERSION_MIN);
    let mut quota = MutationQuota::new(ctx, info, enforced);
    let (mut topics, mut responses) = (Vec::new(), Vec::new());
    for topic in wanted(&request) {
        match quota.take(partition_count(&image, &topic)) {
            Ok(()) => topics.push(topic),
            Err(refusal) => responses.push(refused(topic, &refusal)),
        }
    }
    let command = Command::DeleteTopics(DeleteTopics {
        topics: topics.clone(),
    });
    match submit(ctx, command, deadline, topics_deleted).await {
        Ok(deleted) => {
            until_shown(ctx, deadline, |image| shows(image, &deleted)).await;
            responses.extend(deleted.into_iter().map(result));
        }
        Err(refusal) => {
            let topics = topics.into_iter();
            responses.extend(topics.map(|topic| refused(topic, &refusal)));
        }
    }
    DeleteTopicsResponse {
        throttle_time_ms: quota.throttle_ms(),
        responses,
    }
}

fn partition_count(image: &Image, topic: &TopicRef) -> usize {
    let by_id = topic.topic_id.map(Into::into);
    let known = match (&topic.name, by_id) {
        (Some(name), _) => image.topic_by_name(name),
        (None, id) => id.and_then(|id| image.topics.get(&id)),
    };
    known.map_or(0, |topic| topic.partitions.len())
}

/// The topics of the request; only one of the two lists has any, by its version.
fn wanted(request: &DeleteTopicsRequest) -> Vec<TopicRef> {
    let owned = |name: &Str| name.as_str().to_owned();
    let by_name = request.topic_names.iter().map(|name| TopicRef {
        name: Some(owned(name)),
        topic_id: None,
    });
    let by_either = request.topics.iter().map(|topic| TopicRef {
        name: topic.name.as_ref().map(owned),
        topic_id: (!topic.topic_id.is_nil()).then(|| topic_id(topic.topic_id).into()),
    });
    by_name.chain(by_either).collect()
}

fn topics_deleted(response: Response) -> Option<Vec<TopicDeleted>> {
    match response {
        Response::DeleteTopics(response) => Some(response.topics),
        _ => None,
    }
}

fn shows(image: &Image, deleted: &[TopicDeleted]) -> bool {
    let mut ids = deleted
        .iter()
        .filter(|topic| topic.failure.is_none())
        .filter_map(|topic| topic.topic_id);
    ids.all(|id| !image.topics.contains_key(&id.into()))
}

fn refused(topic: TopicRef, refusal: &Refusal) -> DeletableTopicResult {
    let (error_code, error_message) = outcome(Some(refusal.clone()));
    let TopicRef { name, topic_id } = topic;
    let deleted = result(TopicDeleted {
        name,
        topic_id,
        failure: None,
    });
    DeletableTopicResult {
        error_code,
        error_message,
        ..deleted
    }
}

fn result(topic: TopicDeleted) -> DeletableTopicResult {
    let (error_code, error_message) = outcome(topic.failure.map(Refusal::from));
    DeletableTopicResult {
        name: topic.name.map(Str::from),
        topic_id: topic.topic_id.map_or(Uuid::NIL, |id| wire_id(id.into())),
        error_code,
        error_message,
    }
}

#[cfg(test)]
mod tests {
    use broker_wire::message::delete_topics::DeleteTopicState;

    use super::*;

    #[test]
    fn topics_are_named_by_either_list() {
        let old = DeleteTopicsRequest {
            topic_names: vec!["a".into()],
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(
            wanted(&old),
            [TopicRef {
                name: Some("a".to_owned()),
                topic_id: None
            }]
        );
        let id = Uuid::from_u128(7);
        let new = DeleteTopicsRequest {
            topics: vec![
                DeleteTopicState {
                    name: Some("a".into()),
                    topic_id: Uuid::NIL,
                },
                DeleteTopicState {
                    name: None,
                    topic_id: id,
                },
            ],
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(
            wanted(&new),
            [
                TopicRef {
                    name: Some("a".to_owned()),
                    topic_id: None
                },
                TopicRef {
                    name: None,
                    topic_id: Some(topic_id(id).into())
                },
            ]
        );
    }
}
