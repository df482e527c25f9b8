//! `cargo xtask clients`: the cases of all clients on Klamm and, to compare, on Apache Kafka, and the
//! table of both.

use std::path::Path;

use anyhow::{Result, bail};

use crate::image::Binaries;
use crate::paths;
use crate::process::{announce, run};
use crate::workspace::{cargo, target_directory};

/// Test targets whose clients talk to the system that the environment names.
const TARGETS: [&str; 10] = [
    "aiokafka",
    "cli",
    "confluent_kafka",
    "franz_go",
    "java",
    "kafka_go",
    "kafka_python",
    "kcat",
    "sarama",
    "streams",
];
/// More of them, which take too long, to install or to run, for `cargo xtask test`.
const LONG_TARGETS: [&str; 4] = ["connect", "java_3", "kafka_tools", "kafkajs"];
/// Programs of the same kind that take longer still.
const PROGRAMS: [&str; 1] = ["kgo"];
const E2E_PACKAGE: &str = "klamm-e2e";
const TABLE: &str = "docs/clients.md";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run the same cases on another system, too, and write docs/clients.md
    #[arg(long, value_parser = ["kafka"], value_name = "SYSTEM")]
    against: Option<String>,
}

/// Whether `cargo xtask test` leaves the target out.
pub(crate) fn is_long(target: &str) -> bool {
    LONG_TARGETS.contains(&target)
}

/// Runs the cases; fails, after the table is written, if one of Klamm's failed.
pub(crate) fn run_clients(arguments: &Arguments) -> Result<()> {
    let binaries = Binaries::build()?;
    let reports = target_directory()?.join("clients");
    let klamm_passed = run_cases(&binaries, "klamm", &reports);
    if let Some(peer) = &arguments.against {
        // What it fails in is in the table.
        run_cases(&binaries, peer, &reports);
        announce(format!("writing {TABLE}"));
        let (klamm, kafka) = (reports.join("klamm"), reports.join(peer));
        run(cargo()
            .args(["run", "--locked", "--package", E2E_PACKAGE])
            .args(["--bin", "clients", "--"])
            .args([klamm, kafka, paths::repository().join(TABLE)]))?;
    }
    if !klamm_passed {
        bail!("a case failed on Klamm");
    }
    Ok(())
}

/// Whether all cases passed on the system.
fn run_cases(binaries: &Binaries, system: &str, reports: &Path) -> bool {
    let reports = reports.join(system);
    let on_system = |arguments: &[&str]| {
        let mut command = cargo();
        command
            .args(arguments)
            .args(["--locked", "--package", E2E_PACKAGE])
            .env("KLAMM_E2E_AGAINST", system)
            .env("KLAMM_E2E_REPORTS", &reports)
            .env("KLAMM_E2E_LONG", "1")
            .env("KLAMM_BROKER_BIN", &binaries.broker)
            .env("KLAMM_CLI_BIN", &binaries.cli);
        command
    };
    // Those of an earlier run, which may not be there.
    let _ = std::fs::remove_dir_all(&reports);
    announce(format!("clients on {system}"));
    let mut test = on_system(&["test", "--no-fail-fast"]);
    for target in TARGETS.iter().chain(&LONG_TARGETS) {
        test.args(["--test", target]);
    }
    let mut passed = run(&mut test).is_ok();
    for program in PROGRAMS {
        announce(format!("{program} on {system}"));
        passed &= run(on_system(&["run"]).args(["--bin", program])).is_ok();
    }
    passed
}
