//! What is printed when a case failed: objects, events and logs, as kubectl shows them.

use crate::kubernetes::{Access, OPERATOR_NAMESPACE};

const OBJECTS: &str = "kafkaclusters,topics,statefulsets,pods,services,endpoints,configmaps,\
                       persistentvolumeclaims,poddisruptionbudgets,networkpolicies";
const LOG_LINES: &str = "--tail=60";
/// Selects the pods of all brokers.
const BROKERS: &str = "app.kubernetes.io/name=klamm-broker";

/// Prints the state of a namespace, and of the operator.
pub(super) fn print(access: &Access, namespace: &str) {
    let operator = format!("--namespace={OPERATOR_NAMESPACE}");
    let namespace = format!("--namespace={namespace}");
    let brokers = format!("--selector={BROKERS}");
    let views: [&[&str]; 8] = [
        &["get", OBJECTS, "--output=wide", &namespace],
        &["get", "kafkaclusters,topics", "--output=yaml", &namespace],
        &["describe", "pods", &brokers, &namespace],
        &["get", "events", "--sort-by=.lastTimestamp", &namespace],
        &["logs", "--prefix", LOG_LINES, &brokers, &namespace],
        &[
            "logs",
            "--prefix",
            LOG_LINES,
            "--previous",
            &brokers,
            &namespace,
        ],
        &["get", "pods", "--output=wide", &operator],
        &["logs", "deployment/klamm", "--tail=100", &operator],
    ];
    for view in views {
        println!("--- kubectl {}", view.join(" "));
        // What cannot be shown, such as the log of a pod that never crashed, is part of the picture.
        match access.kubectl().args(view).run() {
            Ok(output) => println!("{}", output.stdout),
            Err(error) => println!("{error}"),
        }
    }
}
