//! The command-line tools built from Go modules at pinned versions, each once per machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::paths;
use crate::process::{announce, run};

/// The kind release; its node images and the base files of ours belong to it.
pub(crate) const KIND: Tool = Tool {
    name: "kind",
    package: "sigs.k8s.io/kind",
    version: "v0.30.0",
};
/// The Helm release that installs the chart.
pub(crate) const HELM: Tool = Tool {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    version: "v3.19.5",
};

/// A program that `go install` makes.
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
    /// The version of the module that holds the package.
    pub(crate) version: &'static str,
}

impl Tool {
    /// The program's path; builds it first if this machine has not yet.
    pub(crate) fn ensure(&self) -> Result<PathBuf> {
        let directory = self.directory()?;
        let program = directory.join(self.name);
        if !program.exists() {
            announce(format!("building {} {}", self.name, self.version));
            fs::create_dir_all(&directory)
                .with_context(|| format!("cannot create {}", directory.display()))?;
            run(go()
                .env("GOBIN", &directory)
                .args(["install", "-trimpath", "-ldflags=-s -w"])
                .arg(format!("{}@{}", self.package, self.version)))?;
        }
        Ok(program)
    }

    /// The directory to put on `PATH` for others to find the program.
    pub(crate) fn directory(&self) -> Result<PathBuf> {
        Ok(paths::cache()?
            .join("tools")
            .join(format!("{}-{}", self.name, self.version)))
    }
}

/// `go` with what every build here has in common: static binaries that depend on nothing but their
/// source.
pub(crate) fn go() -> Command {
    let mut command = Command::new(go_program());
    command
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false");
    command
}

// The official archive's place is not on everybody's PATH.
fn go_program() -> PathBuf {
    paths::find_program("go").unwrap_or_else(|| Path::new("/usr/local/go/bin/go").to_owned())
}
