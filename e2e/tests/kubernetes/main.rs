//! Klamm on Kubernetes: the operator, and brokers that are pods. One file per behaviour; all of
//! them share the cluster of `examples/cluster.yaml`, in this order, and each leaves it healthy.

mod bad_specs;
mod broker_deleted;
mod broker_missing;
mod clients_inside;
mod clients_outside;
mod config_changed;
mod every_broker_deleted;
mod image_changed;
mod objects_deleted;
mod operator_deleted;
mod scaled;
mod topic_lifecycle;
mod true_status;
mod volume_lost;

use std::process::ExitCode;

use anyhow::Result;
use klamm_e2e::cases::Cases;
use klamm_e2e::kubernetes::Example;
use tokio::runtime::Runtime;

type Case = fn(&Runtime, &Example) -> Result<()>;

#[rustfmt::skip]
const CASES: [(&str, Case); 21] = [
    ("bad clusters are refused with advice", |on, e| on.block_on(bad_specs::of_clusters(e))),
    ("bad topics are refused with advice", |on, e| on.block_on(bad_specs::of_topics(e))),
    ("what only the operator can refuse is a condition", |on, e| on.block_on(bad_specs::found_by_operator(e))),
    ("the cluster becomes ready, its status is true", |on, e| on.block_on(true_status::of_cluster(e))),
    ("the topic becomes ready, its status is true", |on, e| on.block_on(true_status::of_topic(e))),
    ("kcat outside", |on, e| on.block_on(clients_outside::kcat(e))),
    ("Java client outside", |on, e| on.block_on(clients_outside::java(e))),
    ("kcat and Java client inside", |on, e| on.block_on(clients_inside::kcat_and_java(e))),
    ("a topic grows and gets settings", |on, e| on.block_on(topic_lifecycle::grows(e))),
    ("topics go by their deletion policy", |on, e| on.block_on(topic_lifecycle::deletion_policies(e))),
    ("the operator is deleted under load", |on, e| on.block_on(operator_deleted::under_load(e))),
    ("a broker is deleted under load", |on, e| on.block_on(broker_deleted::under_load(e))),
    ("deleted objects come back", |on, e| on.block_on(objects_deleted::come_back(e))),
    ("a setting that brokers refuse changes nothing", |on, e| on.block_on(config_changed::refused(e))),
    ("a setting that running brokers take restarts none", |on, e| on.block_on(config_changed::without_restart(e))),
    ("a bad image stops at one broker, a good one gets to all", |on, e| on.block_on(image_changed::under_load(e))),
    ("a changed setting restarts one broker after the other", |on, e| on.block_on(config_changed::under_load(e))),
    ("a missing broker keeps the others from being restarted", |on, e| on.block_on(broker_missing::under_load(e))),
    ("every broker is killed at once", |on, e| on.block_on(every_broker_deleted::data_stays(e))),
    ("a voter loses its volume", |on, e| on.block_on(volume_lost::under_load(e))),
    ("a broker joins, and one of the voters is removed", |on, e| on.block_on(scaled::under_load(e))),
];

fn main() -> ExitCode {
    let mut cases = Cases::new("kubernetes");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

/// The namespace of a run in which something failed stays, to be looked at.
fn run(cases: &mut Cases) -> Result<()> {
    let runtime = Runtime::new()?;
    let example = runtime.block_on(Example::apply())?;
    for (name, case) in CASES {
        cases.run(name, || {
            case(&runtime, &example).inspect_err(|_| example.print_state())
        });
    }
    if cases.any_failed() {
        return Ok(());
    }
    runtime.block_on(example.delete())
}
