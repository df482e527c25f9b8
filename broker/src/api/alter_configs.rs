//! AlterConfigs: replaces all settings of a resource.

use broker_core::controller::{AlterMode, ConfigOp, ConfigOpType, ConfigResource};
use broker_wire::message::alter_configs::{AlterConfigsResource, AlterConfigsResourceResponse};
use broker_wire::message::{AlterConfigsRequest, AlterConfigsResponse};

use super::context::{Context, RequestInfo};
use super::create_topics::outcome;
use super::incremental_alter_configs::{Change, alter, resource_type};

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: AlterConfigsRequest,
) -> AlterConfigsResponse {
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
    AlterConfigsResponse {
        responses: responses.collect(),
        ..AlterConfigsResponse::default()
    }
}

fn change(resource: &AlterConfigsResource) -> Change {
    let ops = resource.configs.iter().map(|config| ConfigOp {
        key: config.name.as_str().to_owned(),
        op: ConfigOpType::Set.into(),
        value: config.value.as_ref().map(|value| value.as_str().to_owned()),
    });
    Ok(ConfigResource {
        resource_type: resource_type(resource.resource_type, &resource.resource_name)?.into(),
        name: resource.resource_name.as_str().to_owned(),
        mode: AlterMode::Replace.into(),
        ops: ops.collect(),
    })
}
