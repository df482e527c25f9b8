//! KafkaJS, in a program that Node.js runs.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Program;
use crate::cache::{built, client_sources};
use crate::tool::Tool;

const SCRIPT: &str = "kafkajs.js";
const INPUTS: [&str; 3] = [SCRIPT, "package.json", "package-lock.json"];
/// In a retry it sends nothing to brokers that answered the first time.
const LOSES_MESSAGES: &str = "loses messages on Apache Kafka, too: it does not send what moved to a broker \
     that has answered already";
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// KafkaJS against one cluster.
///
/// # Errors
/// When it can't be installed.
pub fn kafkajs(bootstrap: &str) -> Result<Program> {
    let sources = client_sources("node");
    let inputs = INPUTS.map(|name| sources.join(name));
    let directory = built("kafkajs", &inputs, |directory| {
        for (name, input) in INPUTS.iter().zip(&inputs) {
            fs::copy(input, directory.join(name))
                .with_context(|| format!("can't copy {}", input.display()))?;
        }
        Tool::new("npm")
            .directory(directory)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .time_limit(INSTALL_LIMIT)
            .run()?;
        Ok(())
    })?;
    let command = vec![PathBuf::from("node"), directory.join(SCRIPT)];
    Ok(Program {
        codecs: &["none", "gzip", "snappy"],
        loses_messages: Some(LOSES_MESSAGES),
        ..Program::new("kafkajs", command, bootstrap)
    })
}
