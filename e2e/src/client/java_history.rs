//! `e2e/clients/java/History.java`: Kafka's Java client as part of the fault injection's workload.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::{Java, Program};
use crate::cache::{built, client_sources};
use crate::tool::Tool;

const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// The compiler that starts fast suits programs that live for a minute.
const OPTIONS: [&str; 4] = [
    "-Xmx128m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
];

/// The program against one cluster.
///
/// # Errors
/// When it can't be compiled, or Maven can't resolve the jars.
pub fn java_history(bootstrap: &str) -> Result<Program> {
    let java = Java::new(bootstrap)?;
    let sources = client_sources("java");
    let inputs = [sources.join("History.java"), sources.join("pom.xml")];
    let classes = built("java-history", &inputs, |directory| {
        Tool::new("javac")
            .args(["-XDignore.symbol.file", "-cp", java.classpath(), "-d"])
            .args([directory, inputs[0].as_path()])
            .time_limit(COMPILE_LIMIT)
            .run()?;
        Ok(())
    })?;
    let logging = sources.join("log4j2.properties");
    let classpath = format!("{}:{}", classes.display(), java.classpath());
    let command = ["java"]
        .into_iter()
        .chain(OPTIONS)
        .map(PathBuf::from)
        .chain([
            format!("-Dlog4j2.configurationFile={}", logging.display()).into(),
            "-cp".into(),
            classpath.into(),
            "History".into(),
        ]);
    Ok(Program {
        name: "java",
        command: command.collect(),
        bootstrap: bootstrap.to_owned(),
    })
}
