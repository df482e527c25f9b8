//! Nodes: in which zones a pool's brokers can be, and at which addresses clients reach them.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};
use klamm_crds::Pool;

/// Taints of this prefix come and go with a node's condition; zones are chosen for ever.
const CONDITION_TAINT_PREFIX: &str = "node.kubernetes.io/";

/// Zones with nodes that can run brokers of the pool, or those that the pool names.
pub(crate) fn zones(nodes: &[Node], topology_key: &str, pool: &Pool) -> BTreeSet<String> {
    if !pool.zones.is_empty() {
        return pool.zones.iter().cloned().collect();
    }
    nodes
        .iter()
        .filter(|node| eligible(node, pool))
        .filter_map(|node| zone(node, topology_key).map(str::to_owned))
        .collect()
}

/// Internal addresses of the nodes that clients may be sent to for a broker of the zone, ordered by
/// node name. Any node forwards to any broker; the broker's own zone saves a hop between zones.
pub(crate) fn addresses<'a>(
    nodes: &'a [Node],
    topology_key: &str,
    pool: &Pool,
    broker_zone: Option<&str>,
) -> Vec<&'a str> {
    let mut candidates: Vec<_> = nodes.iter().filter(|node| eligible(node, pool)).collect();
    candidates.sort_by_key(|node| node.metadata.name.as_deref());
    let near: Vec<_> = candidates
        .iter()
        .filter(|node| broker_zone.is_none() || zone(node, topology_key) == broker_zone)
        .filter_map(|node| internal_address(node))
        .collect();
    if near.is_empty() {
        return candidates
            .into_iter()
            .filter_map(internal_address)
            .collect();
    }
    near
}

/// Whether some node has the address.
pub(crate) fn has_address(nodes: &[Node], address: &str) -> bool {
    nodes
        .iter()
        .any(|node| internal_address(node) == Some(address))
}

fn zone<'a>(node: &'a Node, topology_key: &str) -> Option<&'a str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(topology_key).map(String::as_str)
}

fn internal_address(node: &Node) -> Option<&str> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .find(|address| address.type_ == "InternalIP")
        .map(|address| address.address.as_str())
}

fn eligible(node: &Node, pool: &Pool) -> bool {
    let template = &pool.pod_template;
    let labels = node.metadata.labels.as_ref();
    let selected = template
        .node_selector
        .iter()
        .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value));
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let taints = spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let tolerated = taints
        .iter()
        .filter(|taint| taint.effect != "PreferNoSchedule")
        .filter(|taint| !taint.key.starts_with(CONDITION_TAINT_PREFIX))
        .all(|taint| template.tolerations.iter().any(|t| tolerates(t, taint)));
    selected && !cordoned && tolerated
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration
        .effect
        .as_deref()
        .is_none_or(|effect| effect == taint.effect);
    let key = toleration.key.as_deref().is_none_or(|key| key == taint.key);
    let exists = toleration.operator.as_deref() == Some("Exists");
    effect && key && (exists || (toleration.key.is_some() && toleration.value == taint.value))
}
