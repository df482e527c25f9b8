//! kafka-python against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::kafka_python;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("kafka-python", |cases, cluster| {
        let client = kafka_python(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
