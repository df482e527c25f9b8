//! franz-go against three brokers.

use std::process::ExitCode;

use klamm_e2e::client::franz_go;
use klamm_e2e::suite;

fn main() -> ExitCode {
    suite::run_target("franz-go", |cases, cluster| {
        let client = franz_go(&cluster.bootstrap())?;
        suite::every_case(cases, &client, cluster)
    })
}
