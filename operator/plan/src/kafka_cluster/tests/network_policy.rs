//! The NetworkPolicy: who is let in, and that it is there exactly when it shall be.

use k8s_openapi::api::networking::v1::{NetworkPolicyIngressRule, NetworkPolicyPeer};
use klamm_crds::NetworkPolicyMode;

use super::*;

fn settled() -> World {
    let mut world = World::new();
    world.settle();
    world
}

fn rules(world: &World) -> &[NetworkPolicyIngressRule] {
    let policy = world.observed.network_policy.as_ref().unwrap();
    policy.spec.as_ref().unwrap().ingress.as_ref().unwrap()
}

fn ports(rule: &NetworkPolicyIngressRule) -> Vec<i32> {
    let ports = rule.ports.as_ref().unwrap().iter();
    let number = |port: &Option<IntOrString>| match port {
        Some(IntOrString::Int(number)) => *number,
        other => panic!("not a number: {other:?}"),
    };
    ports.map(|port| number(&port.port)).collect()
}

fn peers(world: &World, port: i32) -> Option<&[NetworkPolicyPeer]> {
    let rule = rules(world).iter().find(|rule| ports(rule).contains(&port));
    rule.unwrap().from.as_deref()
}

#[test]
fn a_policy_changed_by_hand_is_set_right() {
    let mut world = settled();
    let former = world.observed.network_policy.clone();
    let spec = world
        .observed
        .network_policy
        .as_mut()
        .unwrap()
        .spec
        .as_mut();
    let rules = spec.unwrap().ingress.as_mut().unwrap();
    rules.iter_mut().for_each(|rule| rule.from = None);
    let plan = world.plan();
    assert_eq!(plan.apply, [Object::NetworkPolicy(former.clone().unwrap())]);
    assert!(plan.action.is_none());
    world.carry_out(&plan);
    assert_eq!(world.observed.network_policy, former);
}

#[test]
fn a_disabled_policy_is_deleted_and_comes_back_when_enabled() {
    let mut world = settled();
    let former = world.observed.network_policy.clone();
    world.cluster.spec.network_policy.mode = NetworkPolicyMode::Disabled;
    let plan = world.plan();
    assert_eq!(plan.delete_network_policy.unwrap().name, "demo-brokers");
    assert_eq!(world.settle(), 0);
    assert_eq!(world.observed.network_policy, None);
    world.cluster.spec.network_policy.mode = NetworkPolicyMode::Enabled;
    assert_eq!(world.settle(), 0);
    assert_eq!(world.observed.network_policy, former);
}

#[test]
fn the_policy_of_somebody_else_is_not_deleted() {
    let mut world = settled();
    world.cluster.spec.network_policy.mode = NetworkPolicyMode::Disabled;
    let theirs = world.observed.network_policy.as_mut().unwrap();
    theirs.metadata.owner_references = None;
    assert_eq!(world.plan().delete_network_policy, None);
}

#[test]
fn a_paused_cluster_keeps_its_policy() {
    let mut world = settled();
    world.cluster.spec.network_policy.mode = NetworkPolicyMode::Disabled;
    world.cluster.spec.paused = true;
    assert!(idle(&world.plan()));
}

#[test]
fn peers_are_let_in_to_their_listener_alone() {
    let mut world = settled();
    let shop: Vec<NetworkPolicyPeer> =
        serde_json::from_value(json!([{ "podSelector": { "matchLabels": { "app": "shop" } } }]))
            .unwrap();
    let rpc_peers = peers(&world, naming::RPC_PORT).map(<[_]>::to_vec);
    world.cluster.spec.listeners[0]
        .network_policy_peers
        .clone_from(&shop);
    assert_eq!(world.settle(), 0, "nothing restarts for it");
    assert_eq!(peers(&world, 9092), Some(shop.as_slice()));
    assert_eq!(peers(&world, 9094), None);
    assert_eq!(peers(&world, naming::HTTP_PORT), None);
    assert_eq!(peers(&world, naming::RPC_PORT), rpc_peers.as_deref());
}

#[test]
fn an_operator_that_does_not_know_its_pods_does_not_lock_itself_out() {
    let mut world = settled();
    assert_eq!(peers(&world, naming::RPC_PORT).unwrap().len(), 2);
    world.observed.defaults.operator_pods = None;
    world.settle();
    assert_eq!(peers(&world, naming::RPC_PORT), None);
}

#[test]
fn a_former_port_stays_open_until_the_last_broker_has_left_it() {
    let mut world = settled();
    world.cluster.spec.listeners[0].port = 9093;
    let mut seen = Vec::new();
    for _ in 0..50 {
        let plan = world.plan();
        world.carry_out(&plan);
        let open = ports(&rules(&world)[0]);
        let containers = world.observed.pods.iter().flat_map(|pod| {
            let spec = pod.spec.as_ref().unwrap();
            spec.containers[0].ports.as_ref().unwrap()
        });
        let used = containers.filter(|port| port.name.as_deref() == Some("client"));
        assert!(
            used.into_iter()
                .all(|port| open.contains(&port.container_port))
        );
        if seen.last() != Some(&open) {
            seen.push(open);
        }
        world.start_pods();
    }
    assert_eq!(seen, [vec![9092, 9093], vec![9093]]);
}
