//! DeleteTopics: by name, or from v6 on by id.

use broker_core::controller::{Command, DeleteTopics, Response, TopicDeleted, TopicRef};
use broker_core::metadata::Image;
use broker_wire::message::delete_topics::DeletableTopicResult;
use broker_wire::message::{DeleteTopicsRequest, DeleteTopicsResponse};
use broker_wire::{Str, Uuid};

use super::context::{Context, RequestInfo, topic_id, wire_id};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let deadline = deadline(request.timeout_ms);
    let topics = wanted(&request);
    let command = Command::DeleteTopics(DeleteTopics {
        topics: topics.clone(),
    });
    let responses = match submit(ctx, command, deadline, topics_deleted).await {
        Ok(deleted) => {
            until_shown(ctx, deadline, |image| shows(image, &deleted)).await;
            deleted.into_iter().map(result).collect()
        }
        Err(refusal) => topics
            .into_iter()
            .map(|topic| refused(topic, &refusal))
            .collect(),
    };
    DeleteTopicsResponse {
        responses,
        ..DeleteTopicsResponse::default()
    }
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
