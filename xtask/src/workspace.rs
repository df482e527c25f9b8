//! What Cargo knows about this workspace.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::paths;
use crate::process::output;

/// `cargo`, the one that runs this program, in the checkout's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::repository());
    command
}

/// `cargo metadata` without the packages of others.
pub(crate) fn metadata() -> Result<Value> {
    let json = output(cargo().args(["metadata", "--format-version=1", "--no-deps", "--offline"]))?;
    serde_json::from_str(&json).context("cargo metadata printed something else than JSON")
}

/// Where Cargo puts what it builds.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let metadata = metadata()?;
    let directory = metadata["target_directory"]
        .as_str()
        .context("no target directory")?;
    Ok(directory.into())
}
