//! A kind cluster of schedulable nodes, each in a zone of its own, on this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::engine::Engine;
use super::node_image::{self, NodeImage, Source};
use super::{host, tools};
use crate::paths;
use crate::process::{announce, output, run, run_quiet};

pub(crate) const DEFAULT_NAME: &str = "klamm";
pub(crate) const NODES_DEFAULT: u8 = 3;
/// Zones are named by one letter.
pub(crate) const NODES_MAX: u8 = 26;

/// A cluster by its name, whether or not it exists.
pub(crate) struct Cluster {
    name: String,
    engine: Engine,
}

impl Cluster {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            engine: Engine::detect()?,
        })
    }

    /// Makes the cluster unless it is there, and waits until it can run pods.
    pub(crate) fn up(&self, nodes: u8, source: Source) -> Result<()> {
        let start = Instant::now();
        if self.exists()? {
            announce(format!("cluster {} is already there", self.name));
            self.restart_stopped_nodes()?;
        } else {
            let image = node_image::ensure(&self.engine, source)?;
            self.create(nodes, &image)?;
        }
        self.make_schedulable()?;
        self.wait_until_ready()?;
        println!("    ready after {:.0} s", start.elapsed().as_secs_f64());
        println!("    export KUBECONFIG={}", self.kubeconfig()?.display());
        Ok(())
    }

    fn create(&self, nodes: u8, image: &NodeImage) -> Result<()> {
        announce(format!("creating cluster {} of {nodes} nodes", self.name));
        fs::create_dir_all(self.directory()?)?;
        host::ensure_modules_directory()?;
        host::save_sysctls()?;
        let config = self.directory()?.join("kind.yaml");
        fs::write(&config, configuration(nodes))
            .with_context(|| format!("cannot write {}", config.display()))?;
        run(self
            .kind()?
            .args([
                "create",
                "cluster",
                "--wait",
                "120s",
                "--image",
                &image.name,
            ])
            .arg("--config")
            .arg(&config))
        .context("the cluster did not come up: `cargo xtask cluster down` clears what is left")?;
        self.link_kubectl(image)
    }

    /// Removes the taint of the control plane, which kind sets when there are workers: here it is a
    /// zone too.
    fn make_schedulable(&self) -> Result<()> {
        let node = format!("{}-control-plane", self.name);
        let key = "node-role.kubernetes.io/control-plane";
        let keys = output(self.kubectl()?.args([
            "get",
            "node",
            &node,
            "--output=jsonpath={.spec.taints[*].key}",
        ]))?;
        if !keys.split(' ').any(|taint| taint == key) {
            return Ok(());
        }
        run_quiet(
            self.kubectl()?
                .args(["taint", "node", &node, &format!("{key}-")]),
        )
    }

    /// Deletes the cluster and, with the last one, what clusters changed on the host.
    pub(crate) fn down(&self) -> Result<()> {
        announce(format!("deleting cluster {}", self.name));
        self.engine.kill(&self.engine.nodes(Some(&self.name))?)?;
        run(self.kind()?.args(["delete", "cluster"]))?;
        let directory = self.directory()?;
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        if self.engine.nodes(None)?.is_empty() {
            host::restore_sysctls()?;
        }
        Ok(())
    }

    /// Prints the nodes and the way to them; fails if there is no cluster.
    pub(crate) fn status(&self) -> Result<()> {
        if !self.exists()? {
            bail!(
                "there is no cluster {0}: `cargo xtask cluster up --name {0}` makes it",
                self.name
            );
        }
        run(self.kubectl()?.args([
            "get",
            "nodes",
            "--label-columns",
            "topology.kubernetes.io/zone",
        ]))?;
        println!("\nexport KUBECONFIG={}", self.kubeconfig()?.display());
        Ok(())
    }

    /// Makes the images in `archive` known to every node.
    pub(crate) fn load(&self, archive: &Path) -> Result<()> {
        announce(format!(
            "loading {} into cluster {}",
            archive.display(),
            self.name
        ));
        run(self.kind()?.args(["load", "image-archive"]).arg(archive))
    }

    pub(crate) fn kubeconfig(&self) -> Result<PathBuf> {
        Ok(self.directory()?.join("kubeconfig"))
    }

    /// `kubectl` of this cluster.
    pub(crate) fn kubectl(&self) -> Result<Command> {
        let ours = self.directory()?.join("bin/kubectl");
        let program = if ours.exists() {
            ours
        } else {
            PathBuf::from("kubectl")
        };
        let mut command = Command::new(program);
        command.env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    /// `helm` of this cluster.
    pub(crate) fn helm(&self) -> Result<Command> {
        let mut command = Command::new(tools::HELM.ensure()?);
        command.env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    /// Sets what a program needs to work on this cluster, its nodes included.
    pub(crate) fn configure(&self, command: &mut Command) -> Result<()> {
        let mut path = vec![self.directory()?.join("bin"), tools::HELM.directory()?];
        path.push(tools::KIND.directory()?);
        path.extend(std::env::split_paths(
            &std::env::var_os("PATH").unwrap_or_default(),
        ));
        self.engine.configure(command);
        command
            .env("PATH", std::env::join_paths(path)?)
            .env("KLAMM_KIND_CLUSTER", &self.name)
            .env("KLAMM_KUBECONFIG", self.kubeconfig()?);
        Ok(())
    }

    fn kind(&self) -> Result<Command> {
        let mut command = Command::new(tools::KIND.ensure()?);
        self.engine.configure(&mut command);
        command
            .env("KIND_CLUSTER_NAME", &self.name)
            .env("KUBECONFIG", self.kubeconfig()?);
        Ok(command)
    }

    fn directory(&self) -> Result<PathBuf> {
        Ok(paths::cache()?.join("kind/clusters").join(&self.name))
    }

    fn exists(&self) -> Result<bool> {
        let clusters = output(self.kind()?.args(["get", "clusters"]))?;
        Ok(clusters.lines().any(|name| name == self.name) && self.kubeconfig()?.exists())
    }

    /// After a reboot of the host the containers are there, but stopped.
    fn restart_stopped_nodes(&self) -> Result<()> {
        let nodes = output(self.kind()?.args(["get", "nodes"]))?;
        run_quiet(self.engine.command().arg("start").args(nodes.lines()))
    }

    fn wait_until_ready(&self) -> Result<()> {
        announce("waiting for the nodes and the cluster's DNS");
        run_quiet(self.kubectl()?.args([
            "wait",
            "--for=condition=Ready",
            "node",
            "--all",
            "--timeout=120s",
        ]))?;
        run_quiet(self.kubectl()?.args([
            "--namespace=kube-system",
            "rollout",
            "status",
            "deployment/coredns",
            "--timeout=120s",
        ]))
    }

    /// Puts a kubectl that fits the cluster beside its kubeconfig; the stock image brings one for
    /// this purpose.
    fn link_kubectl(&self, image: &NodeImage) -> Result<()> {
        let directory = self.directory()?.join("bin");
        fs::create_dir_all(&directory)?;
        let target = directory.join("kubectl");
        match &image.kubectl {
            Some(kubectl) => std::os::unix::fs::symlink(kubectl, &target)
                .with_context(|| format!("cannot create {}", target.display())),
            None => run_quiet(
                self.engine
                    .command()
                    .arg("cp")
                    .arg(format!("{}-control-plane:/usr/bin/kubectl", self.name))
                    .arg(&target),
            ),
        }
    }
}

/// kind's configuration of one control plane and `nodes - 1` workers.
///
/// The shorter heartbeats make a dead node known within 20 seconds instead of a minute. Kubernetes
/// 1.35 will refuse version 1 cgroups unless told otherwise.
fn configuration(nodes: u8) -> String {
    let mut text = "\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
kubeadmConfigPatches:
- |
  kind: KubeletConfiguration
  failCgroupV1: false
  nodeStatusUpdateFrequency: 4s
- |
  kind: ClusterConfiguration
  controllerManager:
    extraArgs:
      node-monitor-grace-period: 16s
      node-monitor-period: 2s
nodes:
"
    .to_owned();
    for (node, zone) in (0..nodes).zip('a'..='z') {
        let role = if node == 0 { "control-plane" } else { "worker" };
        text +=
            &format!("- role: {role}\n  labels:\n    topology.kubernetes.io/zone: zone-{zone}\n");
    }
    text
}
