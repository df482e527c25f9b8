//! confluent-kafka, which is librdkafka of today, against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::confluent_kafka;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("confluent-kafka", |cases, cluster| {
        let client = confluent_kafka(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
