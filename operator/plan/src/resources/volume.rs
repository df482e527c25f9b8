//! A broker's PersistentVolumeClaim. It carries the cluster's identity, so that retained volumes can
//! be taken over by a new KafkaCluster of the same name.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use klamm_crds::{DeletionPolicy, Storage};

use super::owned;
use crate::allocation::{Allocation, Broker};
use crate::naming;
use crate::validate::Validated;

/// The volume of a broker that was removed: what is on it is of no use to the cluster.
#[must_use]
pub fn retired(mut volume: PersistentVolumeClaim) -> PersistentVolumeClaim {
    let annotations = volume.metadata.annotations.get_or_insert_default();
    annotations.insert(naming::RETIRED_ANNOTATION.to_owned(), "true".to_owned());
    volume
}

/// Goes with the cluster only if the policy says so.
#[must_use]
pub fn volume(
    valid: &Validated,
    allocation: &Allocation,
    broker: &Broker,
    storage: &Storage,
) -> PersistentVolumeClaim {
    let voters: Vec<_> = allocation.voters.iter().map(i32::to_string).collect();
    let mut annotations = BTreeMap::from([
        (
            naming::CLUSTER_ID_ANNOTATION.to_owned(),
            allocation.cluster_id.clone(),
        ),
        (naming::VOTERS_ANNOTATION.to_owned(), voters.join(",")),
    ]);
    if let Some(zone) = &broker.zone {
        annotations.insert(naming::ZONE_ANNOTATION.to_owned(), zone.clone());
    }
    let name = naming::volume(&valid.name, &broker.pool, broker.id);
    let owned = owned(valid, name);
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            labels: Some(naming::broker_labels(&valid.name, &broker.pool, broker.id)),
            annotations: Some(annotations),
            owner_references: match valid.deletion_policy {
                DeletionPolicy::Retain => None,
                DeletionPolicy::Delete => owned.owner_references,
            },
            ..owned
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(storage.size.clone()),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
