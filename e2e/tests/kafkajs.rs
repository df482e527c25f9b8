//! KafkaJS against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::kafkajs;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("kafkajs", |cases, cluster| {
        let client = kafkajs(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
