//! The metadata quorum as the operator manages it: its members, its leader, feature levels.

use broker_core::controller::{Command, FeatureUpdate, UpdateFeatures, UpgradeType, common_levels};
use broker_core::metadata::Image;
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::{
    FeatureLevel, FeatureLevels, FinalizeFeatureLevelRequest, QuorumDescription,
    QuorumRefusedReason,
};
use tonic::Status;

use super::caller::Caller;
use crate::controller::{ChangeVotersError, Controller, SubmitError};

/// Changes the members and tells the quorum as it is then.
pub(super) async fn change(caller: &Caller, change: Change) -> Result<QuorumDescription, Status> {
    caller.check().await?;
    let changed = caller.controller.change_voters(change).await;
    changed.map_err(|error| match error {
        ChangeVotersError::Refused(refused) => {
            let reason = refused.reason();
            let message = refused.message;
            match reason {
                QuorumRefusedReason::UnknownBroker | QuorumRefusedReason::UnknownVoter => {
                    Status::not_found(message)
                }
                QuorumRefusedReason::DuplicateVoter => Status::already_exists(message),
                QuorumRefusedReason::Malformed => Status::invalid_argument(message),
                QuorumRefusedReason::TooMany => Status::resource_exhausted(message),
                QuorumRefusedReason::ChangeInProgress => Status::aborted(message),
                _ => Status::failed_precondition(message),
            }
        }
        ChangeVotersError::Submit(error) => unavailable(&error),
    })?;
    describe(&caller.controller).await
}

pub(super) async fn describe(controller: &Controller) -> Result<QuorumDescription, Status> {
    let described = controller.describe_quorum().await;
    described.map_err(|error| unavailable(&error))
}

fn unavailable(error: &SubmitError) -> Status {
    Status::unavailable(error.to_string())
}

/// Features that are finalized, or can be.
pub(super) fn feature_levels(image: &Image) -> FeatureLevels {
    let supported = image.brokers.values().flat_map(|broker| &broker.features);
    let names = supported.map(|range| &range.name);
    let mut names: Vec<_> = names.chain(image.features.keys()).collect();
    names.sort();
    names.dedup();
    let features = names.into_iter().map(|name| {
        let common = common_levels(image, name);
        FeatureLevel {
            feature: name.clone(),
            finalized_level: image.features.get(name).copied().unwrap_or(0),
            min_level: common.as_ref().map_or(0, |range| range.min_level),
            max_level: common.map_or(0, |range| range.max_level),
        }
    });
    FeatureLevels {
        features: features.collect(),
    }
}

pub(super) async fn finalize(
    caller: &Caller,
    request: FinalizeFeatureLevelRequest,
) -> Result<(), Status> {
    let current = caller.controller.image();
    let current = current.features.get(&request.feature).copied();
    let upgrade_type = if current.unwrap_or(0) <= request.level {
        UpgradeType::Upgrade
    } else if request.may_lose_metadata {
        UpgradeType::UnsafeDowngrade
    } else {
        UpgradeType::SafeDowngrade
    };
    let update = FeatureUpdate {
        name: request.feature,
        level: request.level,
        upgrade_type: upgrade_type.into(),
    };
    let command = UpdateFeatures {
        updates: vec![update],
        validate_only: request.validate_only,
    };
    caller.submit(Command::UpdateFeatures(command)).await?;
    Ok(())
}
