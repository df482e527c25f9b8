//! Every client against one broker alone, as `klamm-broker dev` starts it.

use std::process::ExitCode;

use anyhow::Result;
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Java, Kcat, confluent_kafka, franz_go, kafka_python};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::suite;

const PERF_MESSAGES: u64 = 100_000;

fn main() -> ExitCode {
    let mut cases = Cases::new("one broker");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(1, &suite::OVERRIDES)?;
    let bootstrap = cluster.bootstrap();
    let java = Java::new(&bootstrap)?;
    suite::messages(cases, &Kcat::new(&bootstrap));
    suite::messages(cases, &java);
    suite::messages(cases, &franz_go(&bootstrap)?);
    suite::messages(cases, &confluent_kafka(&bootstrap)?);
    suite::messages(cases, &kafka_python(&bootstrap)?);
    cases.run("java: producer-perf-test and consumer-perf-test", || {
        java.perf_tests("java-perf", PERF_MESSAGES)
    });
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}
