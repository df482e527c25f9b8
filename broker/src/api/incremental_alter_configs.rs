//! IncrementalAlterConfigs (KIP-339), and what it shares with AlterConfigs.

use broker_core::controller::{
    AlterConfigs, AlterMode, Command, ConfigAltered, ConfigOp, ConfigOpType, ConfigResource,
    Response,
};
use broker_core::metadata::{Image, ResourceType};
use broker_wire::message::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse,
};
use broker_wire::message::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};
use super::describe_configs::{BROKER, TOPIC};

/// The request brings no time-out.
const TIMEOUT_MS: i32 = 15_000;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let changes = request.resources.iter().map(change).collect();
    let refusals = alter(ctx, changes, request.validate_only).await;
    let responses = request
        .resources
        .into_iter()
        .zip(refusals)
        .map(|(resource, refusal)| {
            let (error_code, error_message) = outcome(refusal);
            AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
            }
        });
    IncrementalAlterConfigsResponse {
        responses: responses.collect(),
        ..IncrementalAlterConfigsResponse::default()
    }
}

/// Changes of one resource, or why they make no sense.
pub(super) type Change = Result<ConfigResource, Refusal>;

/// Makes the changes and returns, in their order, why each was refused.
pub(super) async fn alter(
    ctx: &Context,
    changes: Vec<Change>,
    validate_only: bool,
) -> Vec<Option<Refusal>> {
    let deadline = deadline(TIMEOUT_MS);
    let resources: Vec<_> = changes.iter().flatten().cloned().collect();
    let command = Command::AlterConfigs(AlterConfigs {
        resources,
        validate_only,
    });
    let (altered, refused_as_a_whole) = match submit(ctx, command, deadline, configs_altered).await
    {
        Ok(altered) => (altered, None),
        Err(refusal) => (Vec::new(), Some(refusal)),
    };
    let mut altered = altered.into_iter();
    let mut accepted = Vec::new();
    let mut refusals = Vec::with_capacity(changes.len());
    for change in changes {
        refusals.push(match change {
            Err(refusal) => Some(refusal),
            Ok(resource) => {
                let failure = altered.next().and_then(|altered| altered.failure);
                let refusal = failure
                    .map(Refusal::from)
                    .or_else(|| refused_as_a_whole.clone());
                accepted.extend(refusal.is_none().then_some(resource));
                refusal
            }
        });
    }
    if !validate_only {
        until_shown(ctx, deadline, |image| {
            accepted.iter().all(|change| shows(image, change))
        })
        .await;
    }
    refusals
}

/// The controller's name for a resource of the protocol.
pub(super) fn resource_type(resource_type: i8, name: &Str) -> Result<ResourceType, Refusal> {
    match resource_type {
        TOPIC => Ok(ResourceType::Topic),
        BROKER if name.is_empty() => Ok(ResourceType::ClusterDefault),
        BROKER => Ok(ResourceType::Broker),
        other => Err(Refusal::new(
            ErrorCode::InvalidRequest,
            format!("resources of type {other} have no configuration here"),
        )),
    }
}

fn change(resource: &AlterConfigsResource) -> Change {
    let ops = resource.configs.iter().map(|config| {
        let op = match config.config_operation {
            0 => ConfigOpType::Set,
            1 => ConfigOpType::Delete,
            2 => ConfigOpType::Append,
            3 => ConfigOpType::Subtract,
            other => {
                let message = format!("{}: there is no operation {other}", config.name);
                return Err(Refusal::new(ErrorCode::InvalidRequest, message));
            }
        };
        Ok(ConfigOp {
            key: config.name.as_str().to_owned(),
            op: op.into(),
            value: config.value.as_ref().map(|value| value.as_str().to_owned()),
        })
    });
    Ok(ConfigResource {
        resource_type: resource_type(resource.resource_type, &resource.resource_name)?.into(),
        name: resource.resource_name.as_str().to_owned(),
        mode: AlterMode::Incremental.into(),
        ops: ops.collect::<Result<_, _>>()?,
    })
}

fn configs_altered(response: Response) -> Option<Vec<ConfigAltered>> {
    match response {
        Response::AlterConfigs(response) => Some(response.resources),
        _ => None,
    }
}

/// Whether a topic has the values that were set and not those that were deleted.
fn shows(image: &Image, change: &ConfigResource) -> bool {
    let Some(topic) = image.topic_by_name(&change.name) else {
        return true;
    };
    let shown = |op: &ConfigOp| match op.op() {
        ConfigOpType::Set => topic.config.get(&op.key) == op.value.as_ref(),
        ConfigOpType::Delete => !topic.config.contains_key(&op.key),
        ConfigOpType::Append | ConfigOpType::Subtract => true,
    };
    let keeps_others = change.mode() == AlterMode::Incremental;
    let others_gone = || topic.config.len() == change.ops.len();
    change.resource_type() != ResourceType::Topic
        || change.ops.iter().all(shown) && (keeps_others || others_gone())
}

#[cfg(test)]
mod tests {
    use broker_wire::message::incremental_alter_configs::AlterableConfig;

    use super::*;

    #[test]
    fn what_the_controller_could_not_tell_apart_is_refused_here() {
        let with = |resource_type, name: &'static str, config_operation| {
            change(&AlterConfigsResource {
                resource_type,
                resource_name: name.into(),
                configs: vec![AlterableConfig {
                    name: "k".into(),
                    config_operation,
                    value: Some("v".into()),
                }],
            })
        };
        let kind = |change: Change| change.map(|resource| resource.resource_type());
        assert_eq!(kind(with(TOPIC, "t", 3)).unwrap(), ResourceType::Topic);
        assert_eq!(kind(with(BROKER, "1", 0)).unwrap(), ResourceType::Broker);
        assert_eq!(
            kind(with(BROKER, "", 0)).unwrap(),
            ResourceType::ClusterDefault
        );
        for (resource_type, operation) in [(TOPIC, 4), (TOPIC, -1), (8, 0)] {
            let refusal = with(resource_type, "x", operation).unwrap_err();
            assert_eq!(refusal.error_code, ErrorCode::InvalidRequest);
        }
    }
}
