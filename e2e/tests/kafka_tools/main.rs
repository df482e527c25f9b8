//! Apache Kafka's command-line tools, as their users run them: what they print and how they exit.
//!
//! The cases are in the order of the tools' purposes; each makes its own topics and groups, so that any of
//! them can be run alone. The last ones stop a broker.

mod cluster;
mod configs;
mod console;
mod dump_log;
mod groups;
mod log_dirs;
mod offsets;
mod outage;
mod performance;
mod reassign;
mod reset_offsets;
mod tools;
mod topics;
mod transactions;

use std::process::ExitCode;

use anyhow::Result;
use klamm_e2e::cases::Cases;
use klamm_e2e::client::MatrixClient as _;
use klamm_e2e::cluster::{Cluster, System};
use klamm_e2e::suite;

use tools::Tools;

const CLIENT: &str = "kafka-tools";

/// A case and its name.
type Case = (&'static str, fn(&Tools) -> Result<()>);

fn main() -> ExitCode {
    suite::run_target("kafka_tools", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    let tools = Tools::new(cluster)?;
    cases.client(CLIENT, tools.java().version()?);
    let suites: [&[Case]; 12] = [
        &topics::CASES,
        &configs::CASES,
        &console::CASES,
        &groups::CASES,
        &reset_offsets::CASES,
        &offsets::CASES,
        &log_dirs::CASES,
        &reassign::CASES,
        &cluster::CASES,
        &transactions::CASES,
        &performance::CASES,
        &dump_log::CASES,
    ];
    for (name, case) in suites.into_iter().flatten() {
        cases.run(&format!("{CLIENT}: {name}"), || case(&tools));
    }
    for (name, case, reason) in cluster::KAFKA_ONLY.iter().chain(&configs::KAFKA_ONLY) {
        let name = format!("{CLIENT}: {name}");
        match tools.system {
            System::Klamm => cases.skip(&name, reason),
            System::Kafka => cases.run(&name, || case(&tools)),
        }
    }
    cases.run(&format!("{CLIENT}: {}", outage::NAME), || {
        outage::case(&tools, cluster)
    });
    Ok(())
}
