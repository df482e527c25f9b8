//! Sarama against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::sarama;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("sarama", |cases, cluster| {
        let client = sarama(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
