//! confluent-kafka and kafka-python against three brokers.

use std::process::ExitCode;

use anyhow::Result;
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{confluent_kafka, kafka_python};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::suite;

fn main() -> ExitCode {
    let mut cases = Cases::new("python");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(3, &suite::OVERRIDES)?;
    for client in [confluent_kafka, kafka_python] {
        let client = client(&cluster.bootstrap())?;
        suite::messages(cases, &client);
        suite::admin(cases, &client);
    }
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}
