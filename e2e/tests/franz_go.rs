//! franz-go against three brokers.

use std::process::ExitCode;

use anyhow::Result;
use klamm_e2e::cases::Cases;
use klamm_e2e::client::franz_go;
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::suite;

fn main() -> ExitCode {
    let mut cases = Cases::new("franz-go");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(3, &suite::OVERRIDES)?;
    let client = franz_go(&cluster.bootstrap())?;
    suite::messages(cases, &client);
    suite::admin(cases, &client);
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}
