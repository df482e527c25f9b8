//! Who may connect to brokers, where the network plugin enforces it: clients to the listeners,
//! everybody to health and metrics, and only brokers and the operator to gRPC. What brokers connect to
//! is not restricted.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use klamm_crds::NetworkPolicyMode;

use super::owned;
use crate::naming;
use crate::observed::OperatorPods;
use crate::validate::Validated;

/// Label that the API server gives to every namespace: its name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The policy, unless there shall be none. A listener whose port changes keeps the former one open as
/// long as any of `pods` uses it.
#[must_use]
pub fn network_policy(valid: &Validated, pods: &[Pod]) -> Option<NetworkPolicy> {
    match valid.network_policy {
        NetworkPolicyMode::Enabled => {}
        NetworkPolicyMode::Disabled => return None,
    }
    let internal = &valid.internal;
    let mut rules = vec![rule(
        ports(naming::CLIENT_PORT_NAME, internal.port, pods),
        internal.peers.clone(),
    )];
    rules.extend(valid.node_port.iter().map(|listener| {
        rule(
            ports(naming::EXTERNAL_PORT_NAME, listener.port, pods),
            listener.peers.clone(),
        )
    }));
    rules.push(rule([naming::RPC_PORT].into(), rpc_peers(valid)));
    rules.push(rule([naming::HTTP_PORT].into(), Vec::new()));
    Some(NetworkPolicy {
        metadata: owned(valid, naming::network_policy(&valid.name)),
        spec: Some(NetworkPolicySpec {
            ingress: Some(rules),
            pod_selector: Some(brokers(valid)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    })
}

/// The wanted port, and those under the same name that pods still have. By number, as not every network
/// plugin knows ports by name.
fn ports(name: &str, wanted: i32, pods: &[Pod]) -> BTreeSet<i32> {
    let containers = pods
        .iter()
        .filter_map(|pod| pod.spec.as_ref())
        .flat_map(|spec| &spec.containers);
    let live = containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter(|port| port.name.as_deref() == Some(name))
        .map(|port| port.container_port);
    live.chain([wanted]).collect()
}

/// Brokers and the operator; everybody if the operator does not know its own pods, as it must not lock
/// itself out.
fn rpc_peers(valid: &Validated) -> Vec<NetworkPolicyPeer> {
    let Some(operator) = &valid.operator_pods else {
        return Vec::new();
    };
    let brokers = NetworkPolicyPeer {
        pod_selector: Some(brokers(valid)),
        ..NetworkPolicyPeer::default()
    };
    vec![brokers, operator_peer(operator)]
}

fn operator_peer(operator: &OperatorPods) -> NetworkPolicyPeer {
    let namespace = (NAMESPACE_NAME_LABEL.to_owned(), operator.namespace.clone());
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector {
            match_labels: Some([namespace].into()),
            ..LabelSelector::default()
        }),
        pod_selector: Some(LabelSelector {
            match_labels: Some(operator.labels.clone()),
            ..LabelSelector::default()
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn brokers(valid: &Validated) -> LabelSelector {
    LabelSelector {
        match_labels: Some(naming::cluster_selector(&valid.name)),
        ..LabelSelector::default()
    }
}

/// No peers: everybody.
fn rule(ports: BTreeSet<i32>, peers: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    let port = |port| NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        ..NetworkPolicyPort::default()
    };
    NetworkPolicyIngressRule {
        from: Some(peers).filter(|peers| !peers.is_empty()),
        ports: Some(ports.into_iter().map(port).collect()),
    }
}
