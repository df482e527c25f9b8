//! The plan against a small model of Kubernetes: objects appear as applied, a StatefulSet's pod
//! starts, node ports are given out.

use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use klamm_crds::{ConfigValue, DeletionPolicy, RebalanceMode};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::*;
use crate::conditions::find;
use crate::observed::{
    Admin, BrokerState, ClusterFacts, ConfigVerdicts, DrainProgress, KeyVerdict, RebalanceProgress,
};
use crate::testing;

mod network_policy;
mod scaling;

struct World {
    cluster: KafkaCluster,
    observed: Observed,
    /// Partitions that have to move for every broker to have its share.
    uneven: u32,
}

impl World {
    fn new() -> Self {
        Self {
            cluster: testing::cluster(),
            observed: testing::observed(),
            uneven: 0,
        }
    }

    /// The plan, with every restart allowed and every changed setting in need of one.
    fn plan(&self) -> Plan {
        let mut observed = self.observed.clone();
        for set in &mut observed.stateful_sets {
            set.metadata.uid.get_or_insert_default();
        }
        for volume in &mut observed.volumes {
            volume.metadata.uid.get_or_insert_default();
        }
        if let Some(policy) = &mut observed.network_policy {
            policy.metadata.uid.get_or_insert_default();
        }
        let confirmed = observed.admin.confirmed();
        observed.quorum = confirmed.map(|facts| testing::quorum(&facts.voters));
        while let Some(question) = question(&self.cluster, &observed, testing::now()) {
            match question {
                Question::ValidateConfig(properties) => {
                    let judged = properties.into_keys();
                    let judged = judged.map(|key| (key, KeyVerdict::NeedsRestart));
                    let verdicts = ConfigVerdicts::Known(judged.collect());
                    observed.answers.config = Some(verdicts);
                }
                Question::CheckRestart(id) => {
                    let answers = &mut observed.answers.restarts;
                    let former = answers.insert(id, RestartVerdict::Safe);
                    assert_eq!(former, None, "asked twice");
                }
                Question::RebalanceStatus => {
                    let known = RebalanceProgress::Known {
                        partitions_left: self.uneven,
                        partitions_moving: self.uneven.min(2),
                        last_progress_at: Some(testing::started_at()),
                        paused: None,
                    };
                    let former = observed.answers.rebalance.replace(known);
                    assert_eq!(former, None, "asked twice");
                }
                Question::DrainStatus(id) => {
                    let known = DrainProgress::Known {
                        bytes_left: None,
                        last_progress_at: None,
                        blocked: None,
                    };
                    let former = observed.answers.drains.insert(id, known);
                    assert_eq!(former, None, "asked twice");
                }
            }
        }
        plan(&self.cluster, &observed, testing::now())
    }

    fn carry_out(&mut self, plan: &Plan) {
        for object in &plan.apply {
            self.apply(object);
        }
        self.observed
            .services
            .retain(|service| !plan.delete_services.contains(name(&service.metadata)));
        if plan.delete_network_policy.is_some() {
            self.observed.network_policy = None;
        }
        let is_deleted = |volume: &PersistentVolumeClaim| {
            let mut deleted = plan.delete_volumes.iter();
            deleted.any(|judged| judged.name == *name(&volume.metadata))
        };
        self.observed.volumes.retain(|volume| !is_deleted(volume));
        match &plan.action {
            Some(Action::Replace(replacement)) => {
                self.apply(&replacement.stateful_set);
                let gone = replacement.pod.as_ref().map(|pod| &pod.name);
                self.observed
                    .pods
                    .retain(|pod| Some(name(&pod.metadata)) != gone);
            }
            Some(Action::Prepare { id, .. }) => {
                self.facts(|facts| {
                    let broker = facts.brokers.get_mut(id).unwrap();
                    broker.state = BrokerState::Draining;
                });
            }
            Some(Action::TransferController(from)) => {
                self.facts(|facts| {
                    facts.controller_id = facts.voters.iter().copied().find(|id| id != from);
                });
            }
            Some(Action::Scale(step)) => self.scale(step),
            Some(Action::Stop(set)) => {
                let (sets, pods) = (&mut self.observed.stateful_sets, &mut self.observed.pods);
                sets.retain(|live| *name(&live.metadata) != set.name);
                let id = set.name.rsplit('-').next().unwrap().parse().unwrap();
                let pod_name = format!("{}-0", set.name);
                pods.retain(|pod| *name(&pod.metadata) != pod_name);
                self.facts(|facts| {
                    let broker = facts.brokers.get_mut(&id);
                    broker
                        .into_iter()
                        .for_each(|b| b.state = BrokerState::Fenced);
                });
            }
            Some(Action::RestoreLeaders) | None => {}
        }
        self.cluster.status = Some(plan.status.clone());
    }

    /// No broker has replicas here.
    fn scale(&mut self, step: &scale::Step) {
        use scale::Step;
        self.facts(|facts| match step {
            Step::AddVoter(id) => facts.voters.push(*id),
            Step::RemoveVoter { id, .. } => {
                facts.voters.retain(|voter| voter != id);
                if facts.controller_id == Some(*id) {
                    facts.controller_id = facts.voters.first().copied();
                }
            }
            Step::Unregister { id, .. } => {
                facts.brokers.remove(id);
            }
            Step::Cordon(id) => facts.brokers.get_mut(id).unwrap().cordoned = true,
            Step::Uncordon(id) => facts.brokers.get_mut(id).unwrap().cordoned = false,
            Step::Drain(id) => facts.brokers.get_mut(id).unwrap().drain = true,
            Step::CancelDrain(id) => facts.brokers.get_mut(id).unwrap().drain = false,
            Step::StartRebalance => facts.rebalancing = true,
            Step::CancelRebalance => facts.rebalancing = false,
            Step::Stop(_) => unreachable!("is an action of its own"),
        });
    }

    fn facts(&mut self, change: impl FnOnce(&mut ClusterFacts)) {
        if let Admin::Answered(facts) = &mut self.observed.admin {
            change(facts);
        }
    }

    fn apply(&mut self, object: &Object) {
        let observed = &mut self.observed;
        match object.clone() {
            Object::ServiceAccount(object) => observed.service_account = Some(object),
            Object::ConfigMap(object) => observed.config_map = Some(object),
            Object::NetworkPolicy(object) => observed.network_policy = Some(object),
            Object::PodDisruptionBudget(object) => observed.pod_disruption_budget = Some(object),
            Object::PersistentVolumeClaim(object) => put(&mut observed.volumes, object),
            Object::StatefulSet(object) => put(&mut observed.stateful_sets, *object),
            Object::Service(mut object) => {
                let given = 30000 + i32::try_from(observed.services.len()).unwrap();
                let spec = object.spec.as_mut().unwrap();
                if spec.type_.as_deref() == Some("NodePort") {
                    let port = &mut spec.ports.as_mut().unwrap()[0];
                    port.node_port = port.node_port.or(Some(given));
                }
                put(&mut observed.services, object);
            }
        }
    }

    /// Pods start; the brokers form a cluster.
    fn start_pods(&mut self) {
        let mut started = Vec::new();
        for set in &self.observed.stateful_sets {
            let pod_name = format!("{}-0", name(&set.metadata));
            if self
                .observed
                .pods
                .iter()
                .any(|pod| *name(&pod.metadata) == pod_name)
            {
                continue;
            }
            let template = &set.spec.as_ref().unwrap().template;
            let containers = &template.spec.as_ref().unwrap().containers;
            let template = template.metadata.as_ref().unwrap();
            let pod = json!({
                "metadata": {
                    "name": pod_name,
                    "uid": format!("uid-of-{pod_name}"),
                    "labels": template.labels,
                    "annotations": template.annotations,
                },
                "spec": { "containers": containers },
                "status": {
                    "phase": "Running",
                    "conditions": [{ "type": "Ready", "status": "True" }],
                },
            });
            self.observed
                .pods
                .push(serde_json::from_value(pod).unwrap());
            started.push(template.labels.as_ref().unwrap()[naming::BROKER_LABEL].clone());
        }
        if !started.is_empty() && self.observed.admin.confirmed().is_none() {
            let mut facts = testing::healthy(0);
            let status = self.cluster.status.as_ref().unwrap();
            facts.voters.clone_from(&status.voters);
            self.observed.admin = Admin::Answered(facts);
        }
        self.facts(|facts| {
            for id in started.iter().map(|id| id.parse().unwrap()) {
                let broker = facts
                    .brokers
                    .entry(id)
                    .or_insert_with(|| testing::serving(id));
                broker.state = BrokerState::Serving;
            }
        });
    }

    /// Reconciles until nothing is left to do; the number of pods replaced.
    fn settle(&mut self) -> usize {
        let mut replaced = 0;
        for _ in 0..400 {
            let plan = self.plan();
            if idle(&plan) && Some(&plan.status) == self.cluster.status.as_ref() {
                return replaced;
            }
            let running = self.observed.pods.len();
            self.carry_out(&plan);
            assert!(
                self.observed.pods.len() + 1 >= running,
                "at most one pod goes at a time"
            );
            replaced += running - self.observed.pods.len();
            self.start_pods();
        }
        panic!("never settled: {:?}", self.plan());
    }

    fn condition(&self, type_: &str) -> String {
        let status = self.cluster.status.as_ref().unwrap();
        let condition = find(&status.conditions, type_).unwrap();
        format!("{} {}", condition.status, condition.reason)
    }

    fn revisions(&self) -> Vec<Option<&str>> {
        self.observed
            .stateful_sets
            .iter()
            .map(set_revision)
            .collect()
    }
}

fn port(service: &Service) -> Option<i32> {
    service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].node_port
}

fn idle(plan: &Plan) -> bool {
    plan.record_first.is_none()
        && plan.apply.is_empty()
        && plan.delete_services.is_empty()
        && plan.delete_network_policy.is_none()
        && plan.delete_volumes.is_empty()
        && plan.config_change.is_none()
        && plan.action.is_none()
}

fn name(metadata: &ObjectMeta) -> &String {
    metadata.name.as_ref().unwrap()
}

fn put<T>(objects: &mut Vec<T>, object: T)
where
    T: k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    objects.retain(|other| other.metadata().name != object.metadata().name);
    objects.push(object);
    objects.sort_by(|a, b| a.metadata().name.cmp(&b.metadata().name));
}

fn yaml<T: Serialize>(objects: &[T]) -> String {
    objects
        .iter()
        .map(|o| format!("---\n{}", serde_yaml::to_string(o).unwrap()))
        .collect()
}

#[test]
fn the_example_becomes_these_objects() {
    let mut world = World::new();
    assert_eq!(
        world.settle(),
        0,
        "nothing restarts while a cluster is made"
    );
    assert_eq!(world.condition("Ready"), "True Serving");
    assert_eq!(world.condition("Progressing"), "False Stable");
    let observed = &world.observed;
    let text = [
        yaml(&[&observed.service_account]),
        yaml(&[&observed.config_map]),
        yaml(&[&observed.network_policy]),
        yaml(&[&observed.pod_disruption_budget]),
        yaml(&observed.services),
        yaml(&observed.volumes[..1]),
        yaml(&observed.stateful_sets[..1]),
        yaml(&[&world.cluster.status]),
    ]
    .concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo.yaml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(
        text == golden,
        "differs from {}: UPDATE=1 rewrites it",
        path.display()
    );
}

#[test]
fn identity_is_recorded_before_anything_is_made_and_never_changes() {
    let mut world = World::new();
    let first = world.plan();
    let recorded = first.record_first.unwrap();
    assert_eq!(recorded.voters, [0, 1, 2]);
    let zones: Vec<_> = recorded
        .brokers
        .iter()
        .map(|broker| broker.zone.clone())
        .collect();
    assert_eq!(
        zones,
        [
            Some("a".to_owned()),
            Some("b".to_owned()),
            Some("c".to_owned())
        ]
    );
    world.settle();
    world.observed.fresh_cluster_id = "another".to_owned();
    world.observed.nodes.reverse();
    world
        .observed
        .nodes
        .push(testing::node("worker-3", Some("d"), "10.0.0.13"));
    assert!(idle(&world.plan()));
}

#[test]
fn what_is_deleted_by_hand_comes_back_alone() {
    let mut world = World::new();
    world.settle();
    let Observed {
        services,
        stateful_sets,
        volumes,
        ..
    } = world.observed.clone();
    for service in &services {
        world
            .observed
            .services
            .retain(|s| s.metadata.name != service.metadata.name);
        let plan = world.plan();
        assert_eq!(plan.apply.len(), 1, "{:?}", plan.apply);
        world.carry_out(&plan);
        let again = world.observed.services.iter();
        let again = again.filter(|s| s.metadata.name == service.metadata.name);
        assert_eq!(again.map(port).collect::<Vec<_>>(), [port(service)]);
    }
    for set in &stateful_sets {
        world
            .observed
            .stateful_sets
            .retain(|s| s.metadata.name != set.metadata.name);
        assert_eq!(
            world.plan().apply,
            [Object::StatefulSet(Box::new(set.clone()))]
        );
        put(&mut world.observed.stateful_sets, set.clone());
    }
    world.observed.volumes.clear();
    assert_eq!(world.plan().apply.len(), volumes.len());
    world.observed.volumes = volumes;
    world.observed.config_map = None;
    world.observed.network_policy = None;
    world.observed.pod_disruption_budget = None;
    world.observed.service_account = None;
    assert_eq!(world.plan().apply.len(), 4);
}

#[test]
fn what_is_changed_by_hand_is_set_right() {
    let mut world = World::new();
    world.settle();
    let spec = world.observed.stateful_sets[1].spec.as_mut().unwrap();
    spec.replicas = Some(0);
    let plan = world.plan();
    assert_eq!(plan.apply.len(), 1);
    assert!(plan.action.is_none());
}

#[test]
fn a_config_change_restarts_the_brokers_one_by_one() {
    let mut world = World::new();
    world.settle();
    world
        .cluster
        .spec
        .config
        .insert("num.partitions".to_owned(), ConfigValue::Integer(6));
    let plan = world.plan();
    assert!(matches!(plan.action, Some(Action::Prepare { id: 1, .. })));
    world.carry_out(&plan);
    let plan = world.plan();
    assert!(matches!(&plan.action, Some(Action::Replace(r)) if r.broker_id == 1));
    world.carry_out(&plan);
    let versions = world
        .observed
        .config_map
        .as_ref()
        .unwrap()
        .data
        .as_ref()
        .unwrap()
        .len();
    assert_eq!(
        versions, 2,
        "brokers that wait for their turn keep their version"
    );
    assert!(world.plan().action.is_none(), "one pod is missing");
    world.start_pods();
    assert_eq!(world.settle(), 2);
    let versions = world
        .observed
        .config_map
        .as_ref()
        .unwrap()
        .data
        .as_ref()
        .unwrap()
        .len();
    assert_eq!(versions, 1);
}

#[test]
fn a_config_that_breaks_out_of_its_line_is_refused() {
    let mut world = World::new();
    world.settle();
    world
        .cluster
        .spec
        .config
        .insert("a".to_owned(), "1\nnode.id=7".into());
    let plan = world.plan();
    assert!(idle(&plan));
    world.carry_out(&plan);
    assert_eq!(world.condition("SpecValid"), "False InvalidConfig");
    assert_eq!(world.condition("Ready"), "True Serving");
}

#[test]
fn retained_volumes_bring_the_cluster_back_as_it_was() {
    let mut world = World::new();
    world.settle();
    let former = world.cluster.status.clone().unwrap();
    let volumes = world.observed.volumes.clone();
    let mut again = World::new();
    again.cluster.metadata.uid = Some("another-uid".to_owned());
    again.observed.fresh_cluster_id = "another".to_owned();
    again.observed.volumes = volumes;
    again.settle();
    let status = again.cluster.status.as_ref().unwrap();
    assert_eq!(status.cluster_id, former.cluster_id);
    assert_eq!(status.voters, former.voters);
    assert_eq!(status.brokers, former.brokers);
}

#[test]
fn volumes_go_with_the_cluster_only_if_asked_to() {
    let mut world = World::new();
    world.settle();
    assert_eq!(world.observed.volumes[0].metadata.owner_references, None);
    world.cluster.spec.deletion_policy = DeletionPolicy::Delete;
    world.settle();
    assert!(
        world.observed.volumes[0]
            .metadata
            .owner_references
            .is_some()
    );
}

#[test]
fn a_lost_node_changes_only_the_address_that_it_had() {
    let mut world = World::new();
    world.settle();
    world.observed.nodes.remove(1);
    world
        .observed
        .nodes
        .push(testing::node("worker-9", Some("b"), "10.0.0.19"));
    assert_eq!(world.settle(), 1);
    let status = world.cluster.status.as_ref().unwrap();
    let hosts: Vec<_> = status
        .brokers
        .iter()
        .map(|b| b.advertised_host.as_deref())
        .collect();
    assert_eq!(
        hosts,
        [Some("10.0.0.10"), Some("10.0.0.19"), Some("10.0.0.12")]
    );
}

#[test]
fn once_the_quorum_is_formed_no_broker_may_form_another_and_none_restarts_for_it() {
    let mut world = World::new();
    let text = |world: &World| yaml(&world.observed.stateful_sets);
    let forbidden = "klamm.quorum.bootstrap.enable=false";
    while world.observed.stateful_sets.is_empty() {
        let plan = world.plan();
        world.carry_out(&plan);
    }
    assert!(!text(&world).contains(forbidden));
    world.start_pods();
    assert_eq!(world.settle(), 0);
    assert!(text(&world).contains(forbidden));
    world.observed.admin = Admin::Unreachable("nobody".to_owned());
    world.observed.stateful_sets.clear();
    let plan = world.plan();
    world.carry_out(&plan);
    assert!(text(&world).contains(forbidden), "nor after an outage");
}

#[test]
fn disruptions_are_allowed_only_when_all_has_settled() {
    let mut world = World::new();
    world.settle();
    let allowed = |world: &World| {
        let budget = world.observed.pod_disruption_budget.as_ref().unwrap();
        budget.spec.as_ref().unwrap().max_unavailable.clone() == Some(IntOrString::Int(1))
    };
    assert!(allowed(&world));
    world.facts(|facts| facts.under_replicated_partitions = 1);
    let plan = world.plan();
    world.carry_out(&plan);
    assert!(!allowed(&world));
    world.facts(|facts| facts.under_replicated_partitions = 0);
    world.settle();
    assert!(allowed(&world));
    let mut blocked = world.observed.clone();
    let no = RestartVerdict::Unknown("time-out".to_owned());
    blocked.answers.restarts.insert(0, no);
    let plan = super::plan(&world.cluster, &blocked, testing::now());
    world.carry_out(&plan);
    assert!(!allowed(&world));
}

/// The verdict about the next broker says nothing about the others: one of them may be a voter that the
/// quorum cannot spare, as another one has lost its disk.
#[test]
fn a_rollout_does_not_open_the_budget_for_brokers_that_nobody_asked_about() {
    let mut world = World::new();
    world.settle();
    world.cluster.spec.image = Some("klamm:next".to_owned());
    let plan = world.plan();
    assert!(
        matches!(plan.action, Some(Action::Prepare { .. })),
        "{:?}",
        plan.action
    );
    world.carry_out(&plan);
    let budget = world.observed.pod_disruption_budget.as_ref().unwrap();
    let brokers = budget.spec.as_ref().unwrap().max_unavailable.clone();
    assert_eq!(brokers, Some(IntOrString::Int(0)));
}

#[test]
fn a_paused_cluster_is_only_watched() {
    let mut world = World::new();
    world.settle();
    world.cluster.spec.paused = true;
    world.observed.stateful_sets.clear();
    let plan = world.plan();
    assert!(idle(&plan));
    world.carry_out(&plan);
    assert_eq!(world.condition("Progressing"), "False Paused");
}

#[derive(Clone, Debug)]
enum Change {
    Replicas(i32),
    Config(i64),
    NodePortListener(bool),
    LoseStatefulSet(usize),
    LosePod(usize),
    LoseServices,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (1..7i32).prop_map(Change::Replicas),
        (1..4i64).prop_map(Change::Config),
        any::<bool>().prop_map(Change::NodePortListener),
        (0..6usize).prop_map(Change::LoseStatefulSet),
        (0..6usize).prop_map(Change::LosePod),
        Just(Change::LoseServices),
    ]
}

fn disturb(world: &mut World, change: &Change) {
    match change {
        Change::Replicas(replicas) => world.cluster.spec.pools[0].replicas = *replicas,
        Change::Config(value) => {
            let value = ConfigValue::Integer(*value);
            world
                .cluster
                .spec
                .config
                .insert("num.partitions".to_owned(), value);
        }
        Change::NodePortListener(wanted) => {
            world.cluster.spec.listeners = testing::cluster().spec.listeners;
            world
                .cluster
                .spec
                .listeners
                .truncate(if *wanted { 2 } else { 1 });
        }
        Change::LoseStatefulSet(index) => {
            let index = index % world.observed.stateful_sets.len();
            let set = world.observed.stateful_sets.remove(index);
            let pod_name = format!("{}-0", name(&set.metadata));
            world
                .observed
                .pods
                .retain(|pod| *name(&pod.metadata) != pod_name);
        }
        Change::LosePod(index) => {
            let index = index % world.observed.pods.len();
            world.observed.pods.remove(index);
        }
        Change::LoseServices => world.observed.services.clear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_settles_and_identity_stays(changes in prop::collection::vec(change(), 1..8)) {
        let mut world = World::new();
        world.settle();
        for change in &changes {
            let former = world.cluster.status.clone().unwrap();
            disturb(&mut world, change);
            world.settle();
            let status = world.cluster.status.clone().unwrap();
            prop_assert_eq!(&status.cluster_id, &former.cluster_id);
            let wanted = world.cluster.spec.pools[0].replicas;
            prop_assert_eq!(status.replicas, wanted);
            prop_assert_eq!(status.voters.len(), usize::try_from(wanted.min(3)).unwrap());
            for now in &status.brokers {
                let before = former.brokers.iter().find(|before| before.id == now.id);
                prop_assert!(before.is_some() || now.id >= former.next_broker_id);
                prop_assert!(before.is_none_or(|before| before.zone == now.zone));
            }
            let sets = world.observed.stateful_sets.len();
            prop_assert_eq!(sets, status.brokers.len());
            prop_assert!(status.brokers.iter().all(|broker| broker.up_to_date));
        }
    }
}
