//! Creation and deletion of topics.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString as _};

use super::command::{CreateTopics, DeleteTopics, NewTopic, TopicRef};
use super::configs;
use super::context::Context;
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::partitions::{self, PartitionBudget, Shape};
use super::response::{
    CreateTopicsResponse, DeleteTopicsResponse, Response, TopicCreated, TopicDeleted,
};
use super::topic_name;
use crate::TopicId;
use crate::metadata::{Config, DeleteTopic, Record, ResourceType, Topic, TopicImage, Uuid};

pub(super) fn create(
    draft: &mut Draft,
    context: &mut Context<'_>,
    command: &CreateTopics,
) -> Response {
    let mut names = BTreeSet::new();
    let mut repeated = BTreeSet::new();
    for topic in &command.topics {
        if !names.insert(topic.name.as_str()) {
            repeated.insert(topic.name.as_str());
        }
    }
    let mut budget = PartitionBudget::new(draft.image());
    let topics = command.topics.iter().map(|topic| {
        let outcome = if repeated.contains(topic.name.as_str()) {
            Err(Failure::new(
                CommandError::InvalidRequest,
                "the request names the topic twice",
            ))
        } else {
            create_one(draft, context, topic, &mut budget)
        };
        outcome.unwrap_or_else(|failure| TopicCreated {
            name: topic.name.clone(),
            failure: Some(failure),
            ..TopicCreated::default()
        })
    });
    let mut response = CreateTopicsResponse {
        topics: topics.collect(),
    };
    if command.validate_only {
        draft.discard_records();
        for topic in &mut response.topics {
            topic.topic_id = Uuid::default();
        }
    }
    Response::CreateTopics(response)
}

fn create_one(
    draft: &mut Draft,
    context: &mut Context<'_>,
    topic: &NewTopic,
    budget: &mut PartitionBudget,
) -> Result<TopicCreated, Failure> {
    topic_name::check(draft.image(), &topic.name)?;
    for (key, value) in &topic.configs {
        configs::check_value(context, ResourceType::Topic, key, value)?;
    }
    let (partitions, replication_factor) = shape(context, topic)?;
    budget.take(partitions)?;
    let shape = Shape {
        existing: &[],
        partitions,
        replication_factor,
    };
    let replicas = partitions::assign(draft.image(), context, &shape, &topic.assignments)?;

    let id = (context.new_topic_id)();
    if id == TopicId::ZERO || draft.image().topics.contains_key(&id) {
        return Err(Failure::new(
            CommandError::InvalidRequest,
            "drew a used topic id; retry",
        ));
    }
    draft.push(Record::Topic(Topic {
        topic_id: id.into(),
        name: topic.name.clone(),
    }));
    for (key, value) in &topic.configs {
        draft.push(Record::Config(Config {
            resource_type: ResourceType::Topic.into(),
            resource_name: topic.name.clone(),
            key: key.clone(),
            value: Some(value.clone()),
        }));
    }
    partitions::push(draft, id, 0, replicas);
    let number = |count: usize| i32::try_from(count).expect("PARTITIONS_MAX is an i32");
    Ok(TopicCreated {
        name: topic.name.clone(),
        failure: None,
        topic_id: id.into(),
        num_partitions: number(partitions),
        replication_factor: number(replication_factor),
        configs: topic.configs.clone(),
    })
}

/// Number of partitions and of replicas of each.
fn shape(context: &Context<'_>, topic: &NewTopic) -> Result<(usize, usize), Failure> {
    if let Some(first) = topic.assignments.first() {
        let refuse = |error, what| Err(Failure::new(error, format!("give replicas or {what}")));
        let count_fits = usize::try_from(topic.num_partitions) == Ok(topic.assignments.len());
        if topic.num_partitions != -1 && !count_fits {
            return refuse(CommandError::InvalidPartitions, "a number of partitions");
        }
        let factor_fits = usize::try_from(topic.replication_factor) == Ok(first.replicas.len());
        if topic.replication_factor != -1 && !factor_fits {
            return refuse(
                CommandError::InvalidReplicationFactor,
                "a replication factor",
            );
        }
        if first.replicas.is_empty() {
            return Err(Failure::new(
                CommandError::InvalidAssignment,
                "give a broker or more",
            ));
        }
        return Ok((topic.assignments.len(), first.replicas.len()));
    }
    let given = |value: i32, default: u32| {
        let value = if value == -1 {
            default
        } else {
            u32::try_from(value).ok()?
        };
        usize::try_from(value).ok().filter(|value| *value > 0)
    };
    let partitions =
        given(topic.num_partitions, context.defaults.num_partitions).ok_or_else(|| {
            Failure::new(
                CommandError::InvalidPartitions,
                "a topic has 1 partition or more",
            )
        })?;
    let replication_factor = given(
        topic.replication_factor,
        context.defaults.replication_factor,
    )
    .ok_or_else(|| {
        Failure::new(
            CommandError::InvalidReplicationFactor,
            "a partition has 1 replica or more",
        )
    })?;
    Ok((partitions, replication_factor))
}

pub(super) fn delete(draft: &mut Draft, command: &DeleteTopics) -> Response {
    let topics = command
        .topics
        .iter()
        .map(|wanted| match find(draft, wanted) {
            Ok(topic) => {
                let (id, name) = (topic.id, topic.name.to_string());
                draft.push(Record::DeleteTopic(DeleteTopic {
                    topic_id: id.into(),
                }));
                TopicDeleted {
                    name: Some(name),
                    topic_id: Some(id.into()),
                    failure: None,
                }
            }
            Err(failure) => TopicDeleted {
                name: wanted.name.clone(),
                topic_id: wanted.topic_id,
                failure: Some(failure),
            },
        });
    Response::DeleteTopics(DeleteTopicsResponse {
        topics: topics.collect(),
    })
}

fn find<'a>(draft: &'a Draft, wanted: &TopicRef) -> Result<&'a TopicImage, Failure> {
    let unknown_name = |name: &String| {
        Failure::new(
            CommandError::UnknownTopic,
            format!("no topic is called {name:?}"),
        )
    };
    match (&wanted.name, wanted.topic_id.map(TopicId::from)) {
        (Some(name), id) => {
            let topic = draft
                .image()
                .topic_by_name(name)
                .ok_or_else(|| unknown_name(name))?;
            if id.is_none_or(|id| id == topic.id) {
                return Ok(topic);
            }
            Err(Failure::new(
                CommandError::InconsistentTopicId,
                format!("topic {name:?} has the id {}", topic.id),
            ))
        }
        (None, Some(id)) => draft
            .image()
            .topics
            .get(&id)
            .map(|topic| &**topic)
            .ok_or_else(|| {
                Failure::new(
                    CommandError::UnknownTopicId,
                    format!("no topic has the id {id}"),
                )
            }),
        (None, None) => Err(Failure::new(
            CommandError::InvalidRequest,
            "give a name or an id",
        )),
    }
}
