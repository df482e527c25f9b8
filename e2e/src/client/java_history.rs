//! `e2e/clients/java/History.java`: Kafka's Java client as part of the fault injection's workload,
//! with `Copier.java` beside it; `Transactions.java`: its transactions.

use std::path::PathBuf;

use anyhow::Result;

use super::jvm::{OPTIONS, compiled, logging};
use super::{Java, Program};
use crate::cache::client_sources;

/// The program against one cluster.
///
/// # Errors
/// When it can't be compiled, or Maven can't resolve the jars.
pub fn java_history(bootstrap: &str) -> Result<Program> {
    program(bootstrap, "java-history", &["History", "Copier"])
}

/// Transactions against one cluster.
///
/// # Errors
/// As [`java_history`].
pub fn java_transactions(bootstrap: &str) -> Result<Program> {
    program(bootstrap, "java-transactions", &["Transactions"])
}

/// The program of these classes, kept below `name`; the first one has its main method.
fn program(bootstrap: &str, name: &str, classes: &[&str]) -> Result<Program> {
    let java = Java::new(bootstrap)?;
    let compiled = compiled(name, &client_sources("java"), classes, java.classpath())?;
    let classpath = format!("{}:{}", compiled.display(), java.classpath());
    let command = ["java", "-Xmx128m"]
        .into_iter()
        .chain(OPTIONS)
        .map(PathBuf::from)
        .chain([
            logging().into(),
            "-cp".into(),
            classpath.into(),
            classes[0].into(),
        ]);
    Ok(Program::new("java", command.collect(), bootstrap))
}
