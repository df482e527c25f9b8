//! The Services of a cluster: names for the brokers, a bootstrap address, and with a NodePort
//! listener a bootstrap port and one port per broker on every node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owned;
use crate::allocation::{Allocation, Broker};
use crate::naming;
use crate::validate::{NodePortListener, Validated};

/// All Services.
#[must_use]
pub fn services(valid: &Validated, allocation: &Allocation) -> Vec<Service> {
    let mut services = vec![brokers(valid), bootstrap(valid)];
    if let Some(listener) = &valid.node_port {
        services.push(external_bootstrap(valid, listener, allocation));
        let brokers = allocation.brokers.iter();
        services.extend(brokers.map(|broker| external_broker(valid, listener, broker)));
    }
    services
}

/// Gives each pod a DNS name, also before it is ready: voters must find each other to become so.
fn brokers(valid: &Validated) -> Service {
    Service {
        metadata: owned(valid, naming::brokers_service(&valid.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(naming::cluster_selector(&valid.name)),
            ports: Some(vec![
                port(naming::CLIENT_PORT_NAME, valid.internal.port, None),
                port("rpc", naming::RPC_PORT, None),
                port("metrics", naming::HTTP_PORT, None),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn bootstrap(valid: &Validated) -> Service {
    Service {
        metadata: owned(valid, naming::bootstrap_service(&valid.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(naming::cluster_selector(&valid.name)),
            ports: Some(vec![port(
                naming::CLIENT_PORT_NAME,
                valid.internal.port,
                None,
            )]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn external_bootstrap(
    valid: &Validated,
    listener: &NodePortListener,
    allocation: &Allocation,
) -> Service {
    let name = naming::external_bootstrap_service(&valid.name);
    Service {
        metadata: owned(valid, name),
        spec: Some(node_port_spec(
            naming::cluster_selector(&valid.name),
            port(
                naming::EXTERNAL_PORT_NAME,
                listener.port,
                allocation.bootstrap_node_port,
            ),
        )),
        ..Service::default()
    }
}

/// Asks for the port that the broker had before: brokers and clients know it.
fn external_broker(valid: &Validated, listener: &NodePortListener, broker: &Broker) -> Service {
    let name = naming::external_broker_service(&valid.name, broker.id);
    Service {
        metadata: ObjectMeta {
            labels: Some(naming::broker_labels(&valid.name, &broker.pool, broker.id)),
            ..owned(valid, name)
        },
        spec: Some(node_port_spec(
            naming::broker_selector(&valid.name, broker.id),
            port(naming::EXTERNAL_PORT_NAME, listener.port, broker.node_port),
        )),
        ..Service::default()
    }
}

fn node_port_spec(selector: BTreeMap<String, String>, port: ServicePort) -> ServiceSpec {
    ServiceSpec {
        type_: Some("NodePort".to_owned()),
        external_traffic_policy: Some("Cluster".to_owned()),
        selector: Some(selector),
        ports: Some(vec![port]),
        ..ServiceSpec::default()
    }
}

fn port(name: &str, port: i32, node_port: Option<i32>) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        node_port,
        ..ServicePort::default()
    }
}
