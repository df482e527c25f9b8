//! CreateTopics, and what all handlers share that have the controller change something.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::controller::{
    Assignment, Command, CreateTopics, Failure, NewTopic, Response, TopicCreated,
};
use broker_core::metadata::Image;
use broker_wire::message::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult,
};
use broker_wire::message::{CreateTopicsRequest, CreateTopicsResponse};
use broker_wire::{ErrorCode, Str};
use tokio::time::{Instant, timeout_at};

use super::context::{Context, RequestInfo, wire_id};
use super::describe_configs::source_code;
use super::error::KafkaError;
use super::mutation_quota::{Enforced, MutationQuota};
use crate::config::{BrokerConfig, Dynamic, keys};
use crate::controller::{ChangeVotersError, SubmitError};

/// Clients that do not want to wait say 0, yet the controller needs a moment to answer.
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// From this version on, clients expect to be refused what exceeds their quota (KIP-599).
const QUOTA_REFUSAL_VERSION_MIN: i16 = 6;
/// A change that another one undid meanwhile is never seen here.
const SHOWN_WAIT_MAX: Duration = Duration::from_secs(5);

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let deadline = deadline(request.timeout_ms);
    let mut results = Vec::with_capacity(request.topics.len());
    let mut wanted = Vec::with_capacity(request.topics.len());
    let validate_only = request.validate_only;
    let enforced = Enforced::of(info, QUOTA_REFUSAL_VERSION_MIN);
    let mut quota = MutationQuota::new(ctx, info, enforced);
    for topic in &request.topics {
        let admitted = new_topic(topic).and_then(|new| {
            if !validate_only {
                quota.take(partition_count(&ctx.config, &new))?;
            }
            Ok(new)
        });
        match admitted {
            Ok(new) => wanted.push((topic.name.clone(), new)),
            Err(refusal) => results.push(refused(topic.name.clone(), refusal)),
        }
    }
    let (names, topics): (Vec<Str>, _) = wanted.into_iter().unzip();
    let command = Command::CreateTopics(CreateTopics {
        topics,
        validate_only,
    });
    match submit(ctx, command, deadline, topics_created).await {
        Ok(created) => {
            if !validate_only {
                until_shown(ctx, deadline, |image| shows(image, &created)).await;
            }
            let image = ctx.image();
            let dynamic = Dynamic::of(&image, ctx.config.id);
            let created = created.into_iter();
            results.extend(created.map(|topic| result(&ctx.config, dynamic, topic)));
        }
        Err(refusal) => {
            results.extend(names.into_iter().map(|name| refused(name, refusal.clone())));
        }
    }
    CreateTopicsResponse {
        throttle_time_ms: quota.throttle_ms(),
        topics: results,
    }
}

/// How many partitions the topic is to have.
fn partition_count(config: &BrokerConfig, topic: &NewTopic) -> usize {
    match usize::try_from(topic.num_partitions) {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        Ok(count) => count,
        Err(_) => config.size("num.partitions"),
    }
}

/// Why the controller did not do what was asked.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) error_code: ErrorCode,
    pub(super) message: Str,
}

impl Refusal {
    pub(super) fn new(error_code: ErrorCode, message: impl Into<Str>) -> Self {
        Self {
            error_code,
            message: message.into(),
        }
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::new(failure.error_code(), failure.message)
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        Self::new(error.error_code(), error.to_string())
    }
}

impl From<ChangeVotersError> for Refusal {
    fn from(error: ChangeVotersError) -> Self {
        Self::new(error.error_code(), error.to_string())
    }
}

/// Error code and message of one result.
pub(super) fn outcome(refusal: Option<Refusal>) -> (ErrorCode, Option<Str>) {
    refusal.map_or((ErrorCode::None, None), |refusal| {
        (refusal.error_code, Some(refusal.message))
    })
}

/// When a request with this `timeout_ms` is to be answered.
pub(super) fn deadline(timeout_ms: i32) -> Instant {
    Instant::now() + time_limit(timeout_ms)
}

fn time_limit(timeout_ms: i32) -> Duration {
    let limit = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    limit.clamp(TIMEOUT_MIN, TIMEOUT_MAX)
}

/// Has the active controller decide and commit `command`; `expect` takes its kind of response.
pub(super) async fn submit<T>(
    ctx: &Context,
    command: Command,
    deadline: Instant,
    expect: impl FnOnce(Response) -> Option<T>,
) -> Result<T, Refusal> {
    let limit = deadline.saturating_duration_since(Instant::now());
    match ctx.controller.submit_within(command, limit).await? {
        Response::Failed(failure) => Err(failure.into()),
        response => expect(response).ok_or_else(|| {
            let message = "the controller's answer belongs to another command";
            Refusal::new(ErrorCode::UnknownServerError, message)
        }),
    }
}

/// Waits until this broker's own metadata shows a committed change, so that a client which goes on
/// here sees it.
pub(super) async fn until_shown(ctx: &Context, deadline: Instant, shows: impl Fn(&Image) -> bool) {
    let deadline = deadline.min(Instant::now() + SHOWN_WAIT_MAX);
    let mut images = ctx.controller.watch();
    // The change is committed even when it is not seen in time.
    let _ = timeout_at(deadline, images.wait_for(|image| shows(image))).await;
}

fn topics_created(response: Response) -> Option<Vec<TopicCreated>> {
    match response {
        Response::CreateTopics(response) => Some(response.topics),
        _ => None,
    }
}

fn shows(image: &Image, created: &[TopicCreated]) -> bool {
    let mut succeeded = created.iter().filter(|topic| topic.failure.is_none());
    succeeded.all(|topic| image.topics.contains_key(&topic.topic_id.into()))
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, Refusal> {
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_ref().ok_or_else(|| {
            let message = format!("{} has no value", config.name);
            Refusal::new(ErrorCode::InvalidConfig, message)
        })?;
        configs.insert(config.name.as_str().to_owned(), value.as_str().to_owned());
    }
    let assignments = topic.assignments.iter().map(|assignment| Assignment {
        partition: assignment.partition_index,
        replicas: assignment.broker_ids.clone(),
    });
    Ok(NewTopic {
        name: topic.name.as_str().to_owned(),
        num_partitions: topic.num_partitions,
        replication_factor: i32::from(topic.replication_factor),
        assignments: assignments.collect(),
        configs,
    })
}

fn refused(name: Str, refusal: Refusal) -> CreatableTopicResult {
    let (error_code, error_message) = outcome(Some(refusal));
    CreatableTopicResult {
        name,
        error_code,
        error_message,
        ..CreatableTopicResult::default()
    }
}

fn result(
    config: &BrokerConfig,
    dynamic: Dynamic<'_>,
    topic: TopicCreated,
) -> CreatableTopicResult {
    let name = Str::from(topic.name);
    if let Some(failure) = topic.failure {
        return refused(name, failure.into());
    }
    let configs = keys::TOPIC_KEYS.iter().map(|key| {
        let (value, source) = config.topic_value(&topic.configs, dynamic, key);
        CreatableTopicConfigs {
            name: key.name.into(),
            value: Some(value.into()),
            config_source: source_code(source),
            ..CreatableTopicConfigs::default()
        }
    });
    CreatableTopicResult {
        name,
        topic_id: wire_id(topic.topic_id.into()),
        num_partitions: topic.num_partitions,
        replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MAX),
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}

#[cfg(test)]
mod tests {
    use broker_wire::message::create_topics::CreatableTopicConfig;

    use super::*;

    #[test]
    fn a_setting_without_a_value_is_refused_by_name() {
        let config = CreatableTopicConfig {
            name: "retention.ms".into(),
            value: None,
        };
        let topic = CreatableTopic {
            configs: vec![config],
            ..CreatableTopic::default()
        };
        let refusal = new_topic(&topic).unwrap_err();
        assert_eq!(refusal.error_code, ErrorCode::InvalidConfig);
        assert_eq!(refusal.message, "retention.ms has no value");
    }

    #[test]
    fn timeouts_are_kept_within_bounds() {
        for (timeout_ms, seconds) in [(0, 1), (-1, 1), (30_000, 30), (i32::MAX, 300)] {
            assert_eq!(
                time_limit(timeout_ms),
                Duration::from_secs(seconds),
                "{timeout_ms}"
            );
        }
    }
}
