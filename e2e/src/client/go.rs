//! franz-go, Sarama and kafka-go, in programs built from `e2e/clients/go`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::Program;
use crate::cache::{built, client_sources};
use crate::messages::Delivery;
use crate::tool::Tool;

/// What the programs share.
const MODULE: [&str; 3] = ["go.mod", "go.sum", "program/program.go"];
/// Modules and, for an old Go, a tool chain may have to be fetched.
const BUILD_LIMIT: std::time::Duration = std::time::Duration::from_secs(600);

/// franz-go against one cluster.
///
/// # Errors
/// When the program can't be built.
pub fn franz_go(bootstrap: &str) -> Result<Program> {
    program("franz-go", ".", bootstrap)
}

/// Sarama against one cluster.
///
/// # Errors
/// When the program can't be built.
pub fn sarama(bootstrap: &str) -> Result<Program> {
    program("sarama", "./sarama", bootstrap)
}

/// kafka-go against one cluster.
///
/// # Errors
/// When the program can't be built.
pub fn kafka_go(bootstrap: &str) -> Result<Program> {
    let program = program("kafka-go", "./kafka-go", bootstrap)?;
    Ok(Program {
        // Its producers are not idempotent.
        delivery: Delivery::AtLeastOnce,
        ..program
    })
}

fn program(name: &'static str, package: &str, bootstrap: &str) -> Result<Program> {
    let module = client_sources("go");
    let mut inputs: Vec<_> = MODULE.iter().map(|file| module.join(file)).collect();
    inputs.extend(go_files(&module.join(package))?);
    let directory = built(name, &inputs, |directory| {
        go_tool()
            .args(["build", "-trimpath", "-o"])
            .args([directory.join(name)])
            .args([package])
            .time_limit(BUILD_LIMIT)
            .run()?;
        Ok(())
    })?;
    Ok(Program::new(name, vec![directory.join(name)], bootstrap))
}

/// In the order of their names.
fn go_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("can't read {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "go") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Go in the module of the programs, whose versions it takes.
#[must_use]
pub fn go_tool() -> Tool {
    Tool::new(go()).directory(&client_sources("go"))
}

/// On `PATH`, or where Go's own instructions put it.
fn go() -> &'static str {
    let installed = "/usr/local/go/bin/go";
    let on_path = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("go").is_file()));
    if on_path { "go" } else { installed }
}
