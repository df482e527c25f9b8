//! Writes the table of clients: `clients KLAMM_REPORTS KAFKA_REPORTS FILE`.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::clients_table::{SystemReports, render};
use klamm_e2e::cluster::System;
use klamm_e2e::report::Report;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [klamm, kafka, file] = &arguments[..] else {
        anyhow::bail!("usage: clients KLAMM_REPORTS KAFKA_REPORTS FILE");
    };
    let klamm = read(System::Klamm, klamm)?;
    let kafka = read(System::Kafka, kafka)?;
    std::fs::write(file, render(&klamm, &kafka)).with_context(|| format!("can't write {file}"))
}

fn read(system: System, directory: &str) -> Result<SystemReports> {
    let reports = Report::read_all(Path::new(directory))?;
    ensure!(!reports.is_empty(), "no reports in {directory}");
    Ok(SystemReports {
        title: system.title()?,
        reports,
    })
}
