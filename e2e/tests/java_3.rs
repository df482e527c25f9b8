//! Apache Kafka's Java client and tools of release 3 against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::Java;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("java-3", |cases, cluster| {
        let java = Java::of_release_3(&cluster.bootstrap())?;
        suite::every_case(cases, &java, cluster)
    })
}
