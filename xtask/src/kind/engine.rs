//! The container engine under kind: Docker where its daemon answers, else Podman.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::host;
use crate::paths;
use crate::process::{output, run_quiet, succeeds};

pub(crate) enum Engine {
    Docker,
    /// The file is set as `CONTAINERS_CONF` if Podman's own settings cannot work on this host.
    Podman {
        containers_conf: Option<PathBuf>,
    },
}

impl Engine {
    pub(crate) fn detect() -> Result<Self> {
        if succeeds(Command::new("docker").arg("info")) {
            return Ok(Self::Docker);
        }
        if paths::find_program("podman").is_none() {
            bail!(
                "neither a Docker daemon nor podman is here: start Docker, or run \
                 `cargo xtask prerequisites --yes`"
            );
        }
        Ok(Self::Podman {
            containers_conf: write_containers_conf(&paths::cache()?.join("kind"))?,
        })
    }

    /// The engine's own command line.
    pub(crate) fn command(&self) -> Command {
        match self {
            Self::Docker => Command::new("docker"),
            Self::Podman { .. } => {
                let mut command = Command::new("podman");
                self.configure(&mut command);
                command
            }
        }
    }

    /// Sets the environment that kind, or anything else that starts containers, needs.
    pub(crate) fn configure(&self, command: &mut Command) {
        if let Self::Podman { containers_conf } = self {
            command.env("KIND_EXPERIMENTAL_PROVIDER", "podman");
            if let Some(file) = containers_conf {
                command.env("CONTAINERS_CONF", file);
            }
        }
    }

    pub(crate) fn has_image(&self, image: &str) -> bool {
        succeeds(self.command().args(["image", "inspect", image]))
    }

    pub(crate) fn pull(&self, image: &str) -> bool {
        succeeds(self.command().args(["pull", image]))
    }

    /// The ids of the running containers that are nodes of kind clusters, or of the one named.
    pub(crate) fn nodes(&self, cluster: Option<&str>) -> Result<Vec<String>> {
        let label = "label=io.x-k8s.kind.cluster";
        let filter = cluster.map_or_else(|| label.to_owned(), |name| format!("{label}={name}"));
        let ids = output(self.command().args(["ps", "--quiet", "--filter", &filter]))?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Stops containers at once: systemd in a node ignores a polite request for ten seconds.
    pub(crate) fn kill(&self, containers: &[String]) -> Result<()> {
        if containers.is_empty() {
            return Ok(());
        }
        run_quiet(
            self.command()
                .args(["kill", "--signal", "KILL"])
                .args(containers),
        )
    }
}

/// Podman's defaults ask for resource limits and a cgroup layout that not every host grants.
fn write_containers_conf(directory: &Path) -> Result<Option<PathBuf>> {
    const NOFILE_DEFAULT: u64 = 1_048_576;
    let mut containers = String::new();
    let mut engine = String::new();

    let limits = host::hard_limits()?;
    if limits.nofile < NOFILE_DEFAULT {
        // Podman lowers its own process limit to kernel.pid_max before the runtime starts.
        let nproc = limits.nproc.min(host::pid_max()? - 1);
        let nofile = limits.nofile;
        containers = format!(
            "[containers]\ndefault_ulimits = [\"nofile={nofile}:{nofile}\", \"nproc={nproc}:{nproc}\"]\n"
        );
    }
    if !host::has_unified_cgroups() {
        // crun refuses hierarchies that are partly version 1; runc takes them.
        engine = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\n\
                  events_logger = \"file\"\n"
            .to_owned();
    }
    if containers.is_empty() && engine.is_empty() {
        return Ok(None);
    }
    let file = directory.join("containers.conf");
    fs::create_dir_all(directory)?;
    fs::write(&file, containers + &engine)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(Some(file))
}
