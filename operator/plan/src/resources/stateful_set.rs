//! A broker's StatefulSet of one replica. It guarantees at most one pod per broker and a stable
//! name; when a pod is replaced is decided in [`crate::rollout`], never by Kubernetes (`OnDelete`).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, ConfigMapProjection, Container, ContainerPort, HTTPGetAction,
    KeyToPath, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PersistentVolumeClaimVolumeSource, PodAffinityTerm, PodAntiAffinity, PodSecurityContext,
    PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, SeccompProfile, SecretProjection,
    SecurityContext, Volume, VolumeMount, VolumeProjection, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use klamm_crds::Pool;

use super::broker_config::{self, CONFIG_DIR, CONFIG_FILE, TOKEN_FILE, VOLUME_DIR};
use super::{config_map, hash, owned};
use crate::allocation::{Allocation, Broker};
use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::validate::Validated;

/// User and group of the image.
const NON_ROOT_ID: i64 = 65532;
/// Time for a controlled shutdown: leaders move away and the log is synced.
const TERMINATION_GRACE_PERIOD_SECONDS: i64 = 120;

/// The StatefulSet of a broker that starts with that configuration, or nothing while its address for
/// clients outside is not known.
#[must_use]
pub fn stateful_set(
    valid: &Validated,
    allocation: &Allocation,
    broker: &Broker,
    pool: &Pool,
    config: &str,
) -> Option<StatefulSet> {
    let arguments = broker_config::arguments(valid, broker)?;
    let mut template = PodTemplateSpec {
        metadata: Some(template_metadata(valid, broker, pool)),
        spec: Some(PodSpec {
            affinity: Some(affinity(valid, broker)),
            automount_service_account_token: Some(false),
            containers: vec![container(valid, pool, arguments)],
            enable_service_links: Some(false),
            node_selector: none_if_empty(&pool.pod_template.node_selector),
            priority_class_name: pool.pod_template.priority_class_name.clone(),
            security_context: Some(pod_security_context()),
            service_account_name: Some(naming::service_account(&valid.name)),
            termination_grace_period_seconds: Some(TERMINATION_GRACE_PERIOD_SECONDS),
            tolerations: Some(pool.pod_template.tolerations.clone()).filter(|t| !t.is_empty()),
            volumes: Some(volumes(valid, broker, config)),
            ..PodSpec::default()
        }),
    };
    let revision = hash(&template);
    template
        .metadata
        .get_or_insert_default()
        .annotations
        .get_or_insert_default()
        .insert(naming::REVISION_ANNOTATION.to_owned(), revision);
    if allocation.quorum_formed && !mutated(Mutation::FormQuorumAgain) {
        let containers = template.spec.iter_mut().flat_map(|pod| &mut pod.containers);
        let arguments = containers.flat_map(|container| container.args.iter_mut());
        arguments.for_each(|arguments| arguments.extend(broker_config::once_formed()));
    }
    let name = naming::stateful_set(&valid.name, &broker.pool, broker.id);
    Some(StatefulSet {
        metadata: ObjectMeta {
            labels: Some(naming::broker_labels(&valid.name, &broker.pool, broker.id)),
            ..owned(valid, name)
        },
        spec: Some(StatefulSetSpec {
            pod_management_policy: Some("Parallel".to_owned()),
            replicas: Some(1),
            selector: LabelSelector {
                match_labels: Some(naming::broker_selector(&valid.name, broker.id)),
                ..LabelSelector::default()
            },
            service_name: Some(naming::brokers_service(&valid.name)),
            template,
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    })
}

/// Revision of a pod or pod template.
#[must_use]
pub fn revision(metadata: &ObjectMeta) -> Option<&str> {
    let annotations = metadata.annotations.as_ref()?;
    annotations
        .get(naming::REVISION_ANNOTATION)
        .map(String::as_str)
}

fn template_metadata(valid: &Validated, broker: &Broker, pool: &Pool) -> ObjectMeta {
    let mut labels = pool.pod_template.labels.clone();
    labels.extend(naming::broker_labels(&valid.name, &broker.pool, broker.id));
    ObjectMeta {
        annotations: none_if_empty(&pool.pod_template.annotations),
        labels: Some(labels),
        ..ObjectMeta::default()
    }
}

fn container(valid: &Validated, pool: &Pool, arguments: Vec<String>) -> Container {
    let mut ports = vec![
        container_port(naming::CLIENT_PORT_NAME, valid.internal.port),
        container_port("rpc", naming::RPC_PORT),
        container_port("metrics", naming::HTTP_PORT),
    ];
    ports.extend(
        valid
            .node_port
            .iter()
            .map(|listener| container_port(naming::EXTERNAL_PORT_NAME, listener.port)),
    );
    Container {
        name: "broker".to_owned(),
        image: Some(valid.image.clone()),
        image_pull_policy: valid.image_pull_policy.clone(),
        command: Some(vec!["/klamm-broker".to_owned()]),
        args: Some(arguments),
        ports: Some(ports),
        resources: pool.resources.clone(),
        // Only whether the process answers: a broker that recovers its log is alive, and killing it
        // would start the recovery again.
        liveness_probe: Some(Probe {
            failure_threshold: Some(6),
            ..probe("/healthz", 10)
        }),
        startup_probe: Some(Probe {
            failure_threshold: Some(900),
            ..probe("/healthz", 2)
        }),
        readiness_probe: Some(Probe {
            failure_threshold: Some(2),
            ..probe("/readyz", 3)
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![
            VolumeMount {
                name: "config".to_owned(),
                mount_path: CONFIG_DIR.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            },
            VolumeMount {
                name: "data".to_owned(),
                mount_path: VOLUME_DIR.to_owned(),
                ..VolumeMount::default()
            },
        ]),
        ..Container::default()
    }
}

fn container_port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn pod_security_context() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(NON_ROOT_ID),
        // A recursive change of ownership at each start would take long on a full volume.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        run_as_group: Some(NON_ROOT_ID),
        run_as_non_root: Some(true),
        run_as_user: Some(NON_ROOT_ID),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

/// In the broker's zone, and on a node without other brokers where possible.
fn affinity(valid: &Validated, broker: &Broker) -> Affinity {
    let in_zone = broker.zone.as_ref().map(|zone| NodeAffinity {
        required_during_scheduling_ignored_during_execution: Some(NodeSelector {
            node_selector_terms: vec![NodeSelectorTerm {
                match_expressions: Some(vec![NodeSelectorRequirement {
                    key: valid.topology_key.clone(),
                    operator: "In".to_owned(),
                    values: Some(vec![zone.clone()]),
                }]),
                ..NodeSelectorTerm::default()
            }],
        }),
        ..NodeAffinity::default()
    });
    Affinity {
        node_affinity: in_zone,
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(LabelSelector {
                            match_labels: Some(naming::cluster_selector(&valid.name)),
                            ..LabelSelector::default()
                        }),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

fn volumes(valid: &Validated, broker: &Broker, config: &str) -> Vec<Volume> {
    let item = |key: String, path: &str| {
        Some(vec![KeyToPath {
            key,
            path: path.to_owned(),
            ..KeyToPath::default()
        }])
    };
    let config = VolumeProjection {
        config_map: Some(ConfigMapProjection {
            name: naming::config_map(&valid.name),
            items: item(config_map::key(config), CONFIG_FILE),
            ..ConfigMapProjection::default()
        }),
        ..VolumeProjection::default()
    };
    let token = VolumeProjection {
        secret: Some(SecretProjection {
            name: naming::token_secret(&valid.name),
            items: item(naming::TOKEN_KEY.to_owned(), TOKEN_FILE),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    };
    vec![
        Volume {
            name: "config".to_owned(),
            projected: Some(ProjectedVolumeSource {
                default_mode: Some(0o440),
                sources: Some(vec![config, token]),
            }),
            ..Volume::default()
        },
        Volume {
            name: "data".to_owned(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: naming::volume(&valid.name, &broker.pool, broker.id),
                ..PersistentVolumeClaimVolumeSource::default()
            }),
            ..Volume::default()
        },
    ]
}

fn none_if_empty(map: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    Some(map.clone()).filter(|map| !map.is_empty())
}
