//! aiokafka against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::aiokafka;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("aiokafka", |cases, cluster| {
        let client = aiokafka(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
