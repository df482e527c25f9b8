//! Configuration of brokers as the operator changes it: judged first, then set where no restart is
//! needed.

use std::collections::BTreeMap;

use broker_core::controller::{
    AlterConfigs, AlterMode, Command, ConfigOp, ConfigOpType, ConfigResource,
    Response as CommandResponse,
};
use broker_core::metadata::ResourceType;
use klamm_proto::v1::config_verdict::Verdict as Told;
use klamm_proto::v1::{
    ApplyConfigRequest, ApplyConfigResponse, ConfigVerdict, ValidateConfigRequest,
    ValidateConfigResponse,
};
use tonic::Status;

use super::caller::Caller;
use super::status::{check, mismatch};
use crate::config::keys::{Scope, Verdict, dynamic_broker_key, judge_broker_setting};

pub(super) fn validate(request: ValidateConfigRequest) -> ValidateConfigResponse {
    let scope = scope(request.broker);
    let properties: BTreeMap<_, _> = request.properties.into_iter().collect();
    let verdicts: Vec<_> = properties
        .into_iter()
        .map(|(key, value)| told(judge_broker_setting(scope, &key, &value), key))
        .collect();
    let is_wrong = |told: &ConfigVerdict| matches!(told.verdict(), Told::Unknown | Told::Invalid);
    ValidateConfigResponse {
        valid: !verdicts.iter().any(is_wrong),
        verdicts,
    }
}

pub(super) async fn apply(
    caller: &Caller,
    request: ApplyConfigRequest,
) -> Result<ApplyConfigResponse, Status> {
    let (ops, needs_restart) = changes(&request)?;
    let applied = ops.iter().map(|op| op.key.clone()).collect();
    if !ops.is_empty() {
        let (resource_type, name) = match request.broker {
            Some(id) => (ResourceType::Broker, id.to_string()),
            None => (ResourceType::ClusterDefault, String::new()),
        };
        let response = caller
            .submit(Command::AlterConfigs(AlterConfigs {
                resources: vec![ConfigResource {
                    resource_type: resource_type.into(),
                    name,
                    mode: AlterMode::Incremental.into(),
                    ops,
                }],
                validate_only: false,
            }))
            .await?;
        let CommandResponse::AlterConfigs(response) = response else {
            return Err(mismatch());
        };
        check(response.resources.first().map(|resource| &resource.failure))?;
    }
    Ok(ApplyConfigResponse {
        applied,
        needs_restart,
    })
}

/// What is to be changed, and the keys that take a restart.
fn changes(request: &ApplyConfigRequest) -> Result<(Vec<ConfigOp>, Vec<String>), Status> {
    let scope = scope(request.broker);
    let set: BTreeMap<_, _> = request.set_config.iter().collect();
    let (mut ops, mut needs_restart) = (Vec::new(), Vec::new());
    for (key, value) in set {
        match judge_broker_setting(scope, key, value) {
            Verdict::Dynamic => ops.push(ConfigOp {
                key: key.clone(),
                op: ConfigOpType::Set.into(),
                value: Some(value.clone()),
            }),
            Verdict::NeedsRestart => needs_restart.push(key.clone()),
            Verdict::Unknown(reason) | Verdict::Invalid(reason) => {
                return Err(Status::invalid_argument(reason));
            }
        }
    }
    for key in &request.reset_config {
        if dynamic_broker_key(key).is_none() {
            let reason = format!("{key} is not set while brokers run");
            return Err(Status::invalid_argument(reason));
        }
        ops.push(ConfigOp {
            key: key.clone(),
            op: ConfigOpType::Delete.into(),
            value: None,
        });
    }
    Ok((ops, needs_restart))
}

const fn scope(broker: Option<i32>) -> Scope {
    match broker {
        Some(_) => Scope::OneBroker,
        None => Scope::AllBrokers,
    }
}

fn told(verdict: Verdict, key: String) -> ConfigVerdict {
    let (verdict, reason) = match verdict {
        Verdict::Dynamic => (Told::Dynamic, String::new()),
        Verdict::NeedsRestart => (Told::NeedsRestart, String::new()),
        Verdict::Unknown(reason) => (Told::Unknown, reason),
        Verdict::Invalid(reason) => (Told::Invalid, reason),
    };
    ConfigVerdict {
        key,
        verdict: verdict.into(),
        reason,
    }
}
