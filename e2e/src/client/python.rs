//! confluent-kafka, kafka-python and aiokafka, in one virtual environment with pinned versions.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::Program;
use crate::cache::{built, client_sources};
use crate::tool::Tool;

const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// confluent-kafka, which is librdkafka of today, against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn confluent_kafka(bootstrap: &str) -> Result<Program> {
    program("confluent-kafka", "confluent.py", bootstrap)
}

/// kafka-python against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn kafka_python(bootstrap: &str) -> Result<Program> {
    program("kafka-python", "kafka_python.py", bootstrap)
}

/// aiokafka against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn aiokafka(bootstrap: &str) -> Result<Program> {
    program("aiokafka", "aio.py", bootstrap)
}

/// Another program of `e2e/clients/python`, with confluent-kafka, against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn confluent_kafka_history(bootstrap: &str) -> Result<Program> {
    program("confluent-kafka", "history.py", bootstrap)
}

/// Transactions of confluent-kafka against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn confluent_kafka_transactions(bootstrap: &str) -> Result<Program> {
    program("confluent-kafka", "transactions.py", bootstrap)
}

fn program(name: &'static str, script: &str, bootstrap: &str) -> Result<Program> {
    let command = vec![interpreter()?, client_sources("python").join(script)];
    Ok(Program::new(name, command, bootstrap))
}

fn interpreter() -> Result<PathBuf> {
    let requirements = client_sources("python").join("requirements.txt");
    let directory = built("python", std::slice::from_ref(&requirements), |directory| {
        Tool::new("python3")
            .args(["-m", "venv"])
            .args([directory])
            .time_limit(INSTALL_LIMIT)
            .run()?;
        Tool::new(directory.join("bin/pip"))
            .args(["install", "--quiet", "--requirement"])
            .args([&requirements])
            .time_limit(INSTALL_LIMIT)
            .run()?;
        Ok(())
    })?;
    Ok(directory.join("bin/python"))
}
