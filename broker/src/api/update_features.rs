//! UpdateFeatures (KIP-584, KIP-778): finalizes features at other levels, all or none.

use broker_core::controller::{Command, FeatureUpdate, Response, UpdateFeatures, UpgradeType};
use broker_wire::ErrorCode;
use broker_wire::message::update_features::{FeatureUpdateKey, UpdatableFeatureResult};
use broker_wire::message::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let done = update(ctx, info, &request).await.err();
    let (error_code, error_message) = outcome(done);
    let features = request.feature_updates.into_iter();
    let result = |update: FeatureUpdateKey| UpdatableFeatureResult {
        feature: update.feature,
        error_code,
        error_message: error_message.clone(),
    };
    UpdateFeaturesResponse {
        error_code,
        error_message: error_message.clone(),
        results: features.map(result).collect(),
        ..UpdateFeaturesResponse::default()
    }
}

async fn update(
    ctx: &Context,
    info: &RequestInfo,
    request: &UpdateFeaturesRequest,
) -> Result<(), Refusal> {
    let deadline = deadline(request.timeout_ms);
    let updates = request.feature_updates.iter();
    let updates: Vec<FeatureUpdate> = updates
        .map(|update| wanted(update, info.version))
        .collect::<Result<_, _>>()?;
    let command = Command::UpdateFeatures(UpdateFeatures {
        updates: updates.clone(),
        validate_only: request.validate_only,
    });
    let accepted = |response| matches!(response, Response::Accepted(_)).then_some(());
    submit(ctx, command, deadline, accepted).await?;
    if !request.validate_only {
        until_shown(ctx, deadline, |image| {
            let mut updates = updates.iter();
            updates.all(|update| {
                image.features.get(&update.name).copied().unwrap_or(0) == update.level
            })
        })
        .await;
    }
    Ok(())
}

fn wanted(update: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, Refusal> {
    let upgrade_type = match (version, update.allow_downgrade, update.upgrade_type) {
        (0, true, _) => UpgradeType::SafeDowngrade,
        (0, false, _) | (_, _, 1) => UpgradeType::Upgrade,
        (_, _, 2) => UpgradeType::SafeDowngrade,
        (_, _, 3) => UpgradeType::UnsafeDowngrade,
        (_, _, other) => {
            let message = format!("{other} is not a type of upgrade: give 1, 2 or 3");
            return Err(Refusal::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok(FeatureUpdate {
        name: update.feature.to_string(),
        level: u32::try_from(update.max_version_level).unwrap_or(0),
        upgrade_type: upgrade_type.into(),
    })
}
