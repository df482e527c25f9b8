use alloc::boxed::Box;

use super::*;
use crate::controller::{
    FeatureUpdate, UpdateFeatures, UpgradeType, common_levels, initial_features, supported_features,
};
use crate::metadata::FeatureRange;

fn update(level: u32, upgrade_type: UpgradeType) -> Command {
    Command::UpdateFeatures(UpdateFeatures {
        updates: vec![FeatureUpdate {
            name: "metadata.version".to_string(),
            level,
            upgrade_type: upgrade_type.into(),
        }],
        validate_only: false,
    })
}

fn refusal(response: &Response) -> Option<(CommandError, &str)> {
    match response {
        Response::Failed(failure) => Some((failure.error(), &failure.message)),
        _ => None,
    }
}

#[test]
fn a_new_cluster_runs_at_levels_that_its_first_brokers_support() {
    let supported = supported_features();
    for (name, level) in initial_features() {
        let range = supported.iter().find(|range| range.name == name).unwrap();
        assert_eq!(level, range.max_level);
        assert!(range.min_level <= range.max_level);
    }
}

#[test]
fn a_feature_goes_only_where_every_broker_can_follow() {
    let mut cluster = Cluster::with_brokers(3);
    let level = |cluster: &Cluster| cluster.image.features.get("metadata.version").copied();
    assert_eq!(level(&cluster), Some(1));
    let common = common_levels(&cluster.image, "metadata.version").unwrap();
    assert_eq!((common.min_level, common.max_level), (1, 2));
    assert_eq!(common_levels(&cluster.image, "unknown"), None);

    let too_high = cluster.submit(update(3, UpgradeType::Upgrade));
    let (error, reason) = refusal(&too_high).unwrap();
    assert_eq!(error, CommandError::FeatureUpdateFailed);
    assert!(
        reason.contains("broker 1 supports levels 1 to 2"),
        "{reason}"
    );
    for (wanted, upgrade_type) in [
        (2, UpgradeType::SafeDowngrade),
        (0, UpgradeType::UnsafeDowngrade),
    ] {
        let response = cluster.submit(update(wanted, upgrade_type));
        assert!(refusal(&response).is_some(), "{wanted} {upgrade_type:?}");
    }

    let Command::UpdateFeatures(mut trial) = update(2, UpgradeType::Upgrade) else {
        unreachable!()
    };
    trial.validate_only = true;
    let tried = cluster.submit(Command::UpdateFeatures(trial));
    assert_eq!(refusal(&tried), None);
    assert_eq!(level(&cluster), Some(1), "only validated");
    assert_eq!(
        refusal(&cluster.submit(update(2, UpgradeType::Upgrade))),
        None
    );
    assert_eq!(level(&cluster), Some(2));
    let lower = cluster.submit(update(1, UpgradeType::Upgrade));
    assert!(refusal(&lower).is_some(), "a downgrade has to be asked for");
    let lower = cluster.submit(update(1, UpgradeType::SafeDowngrade));
    assert_eq!(refusal(&lower), None);
    assert_eq!(level(&cluster), Some(1));
}

#[test]
fn a_broker_that_does_not_support_the_finalized_level_is_refused() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.submit(update(2, UpgradeType::Upgrade));
    let known = cluster.image.brokers[&BrokerId(1)].clone();
    let mut register = |max_level| {
        cluster.submit(Command::RegisterBroker(Box::new(RegisterBroker {
            cluster_id: "klamm".to_string(),
            registration: metadata::RegisterBroker {
                broker_id: 2,
                incarnation: "old".to_string(),
                endpoints: known.endpoints.clone(),
                rpc_port: 1,
                features: vec![FeatureRange {
                    name: "metadata.version".to_string(),
                    min_level: 1,
                    max_level,
                }],
                ..metadata::RegisterBroker::default()
            },
            previous_broker_epoch: -1,
            disks_broker_epoch: -1,
        })))
    };
    let response = register(1);
    let (error, reason) = refusal(&response).unwrap();
    assert_eq!(error, CommandError::UnsupportedFeatureLevel);
    assert!(reason.contains("level 2 of metadata.version"), "{reason}");
    assert_eq!(refusal(&register(2)), None);
}
