//! kafka-go against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::kafka_go;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("kafka-go", |cases, cluster| {
        let client = kafka_go(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
