//! The brokers' configuration in two parts: a properties file with what all share, and arguments
//! with what is one broker's own. So a new broker changes nothing for those that run.

use crate::allocation::{Allocation, Broker};
use crate::naming;
use crate::validate::Validated;

/// Where the configuration and the token are mounted.
pub(super) const CONFIG_DIR: &str = "/etc/klamm";
/// The properties file in it.
pub(super) const CONFIG_FILE: &str = "server.properties";
/// The token in it.
pub(super) const TOKEN_FILE: &str = "secret/token";
/// Where the volume is mounted.
pub(super) const VOLUME_DIR: &str = "/var/lib/klamm";

/// Where a broker that starts for the first time looks for the quorum.
pub(crate) const VOTERS_KEY: &str = "controller.quorum.voters";

const INTERNAL: &str = "INTERNAL";
const EXTERNAL: &str = "EXTERNAL";

/// `server.properties`: the user's keys, then those that the operator sets.
#[must_use]
pub fn shared_properties(valid: &Validated, allocation: &Allocation) -> String {
    let mut listeners = format!("{INTERNAL}://:{}", valid.internal.port);
    if let Some(external) = &valid.node_port {
        listeners.push_str(&format!(",{EXTERNAL}://:{}", external.port));
    }
    let voters: Vec<_> = allocation
        .brokers
        .iter()
        .filter(|broker| allocation.voters.contains(&broker.id))
        .map(|broker| format!("{}@{}", broker.id, rpc_address(valid, broker)))
        .collect();
    let own = [
        (VOTERS_KEY, voters.join(",")),
        ("klamm.cluster.id", allocation.cluster_id.clone()),
        (
            "klamm.http.listener",
            format!("0.0.0.0:{}", naming::HTTP_PORT),
        ),
        (
            "klamm.rpc.listener",
            format!("0.0.0.0:{}", naming::RPC_PORT),
        ),
        ("klamm.rpc.token.file", format!("{CONFIG_DIR}/{TOKEN_FILE}")),
        ("listeners", listeners),
        ("log.dirs", format!("{VOLUME_DIR}/data")),
    ];
    let user = valid
        .config
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()));
    user.chain(own)
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

/// Arguments of a broker, or nothing while its address for clients outside is not known.
pub(super) fn arguments(valid: &Validated, broker: &Broker) -> Option<Vec<String>> {
    let host = naming::host(&valid.name, &valid.namespace, &broker.pool, broker.id);
    let mut advertised = format!("{INTERNAL}://{host}:{}", valid.internal.port);
    if valid.node_port.is_some() {
        let host = broker.advertised_host.as_deref()?;
        let port = broker.node_port?;
        advertised.push_str(&format!(",{EXTERNAL}://{}:{port}", bracketed(host)));
    }
    let mut settings = vec![
        ("node.id", broker.id.to_string()),
        ("advertised.listeners", advertised),
        ("klamm.rpc.advertised", rpc_address(valid, broker)),
    ];
    if let Some(zone) = &broker.zone {
        settings.push(("broker.rack", zone.clone()));
    }
    let mut arguments = vec![
        "run".to_owned(),
        "--config".to_owned(),
        format!("{CONFIG_DIR}/{CONFIG_FILE}"),
    ];
    for (key, value) in settings {
        arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
    }
    Some(arguments)
}

fn rpc_address(valid: &Validated, broker: &Broker) -> String {
    let host = naming::host(&valid.name, &valid.namespace, &broker.pool, broker.id);
    format!("{host}:{}", naming::RPC_PORT)
}

/// More arguments once the voters have formed their quorum: no broker may form another one when disks
/// are lost. It matters to a process that starts, so running ones are not restarted for it.
pub(super) fn once_formed() -> [String; 2] {
    [
        "--set".to_owned(),
        "klamm.quorum.bootstrap.enable=false".to_owned(),
    ]
}

/// IPv6 addresses need brackets before a port.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
