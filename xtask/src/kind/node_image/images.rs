//! The container images that a node starts with: the control plane, the pod network and the
//! volumes.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::build::{Build, KUBERNETES_VERSION};
use crate::oci::{Archive, Image, Layer};
use crate::process::output;

const REGISTRY: &str = "registry.k8s.io";

impl Build {
    /// These share one layer: they are one binary.
    pub(super) fn add_kubernetes_images(&self, archive: &mut Archive, tools: &Path) -> Result<()> {
        let programs = [
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
        ];
        let mut layer = Layer::default().directory("tmp", 0o1777).file(
            "usr/local/bin/kubeall",
            self.binary("kubeall"),
            0o755,
        );
        for program in programs.iter().chain(&["nodenet", "nodestore"]) {
            layer = layer.symlink(&format!("usr/local/bin/{program}"), "kubeall");
        }
        let kubernetes = archive.layer(&layer)?;
        let tools = archive.layer(&Layer::from_directory(tools)?)?;
        for program in programs {
            let layers = match program {
                "kube-proxy" => vec![&tools, &kubernetes],
                _ => vec![&kubernetes],
            };
            let names = vec![format!("{REGISTRY}/{program}:v{KUBERNETES_VERSION}")];
            archive.image(&Image {
                names,
                config: entrypoint(program),
                layers,
            })?;
        }
        for program in ["nodenet", "nodestore"] {
            let names = vec![format!("localhost/{program}:v1")];
            let layers = vec![&tools, &kubernetes];
            archive.image(&Image {
                names,
                config: entrypoint(program),
                layers,
            })?;
        }
        Ok(())
    }

    pub(super) fn add_other_images(&self, archive: &mut Archive) -> Result<()> {
        let wanted = output(
            Command::new(self.binary("kubeadm"))
                .args(["config", "images", "list", "--kubernetes-version"])
                .arg(format!("v{KUBERNETES_VERSION}")),
        )?;
        for (program, path) in [
            ("coredns", "coredns"),
            ("etcd", "usr/local/bin/etcd"),
            ("pause", "pause"),
        ] {
            let prefix = format!("/{program}:");
            let names: Vec<_> = wanted
                .lines()
                .filter(|name| name.contains(&prefix))
                .map(str::to_owned)
                .collect();
            if names.is_empty() {
                bail!("kubeadm {KUBERNETES_VERSION} wants no image of {program}: {wanted}");
            }
            let layer = archive.layer(&Layer::default().file(path, self.binary(program), 0o755))?;
            let config = entrypoint(&format!("/{path}"));
            archive.image(&Image {
                names,
                config,
                layers: vec![&layer],
            })?;
        }
        Ok(())
    }
}

fn entrypoint(program: &str) -> Value {
    json!({
        "Entrypoint": [program],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
    })
}
