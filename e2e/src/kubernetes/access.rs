//! The way to the Kubernetes cluster, as `cargo xtask test` names it in the environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::tool::Tool;

const KUBECONFIG: &str = "KLAMM_KUBECONFIG";
const KIND_CLUSTER: &str = "KLAMM_KIND_CLUSTER";
const LOAD_LIMIT: Duration = Duration::from_secs(120);

/// Where the chart is installed.
pub const OPERATOR_NAMESPACE: &str = "default";

/// A kind cluster with the operator in it.
pub struct Access {
    pub client: Client,
    kubeconfig: PathBuf,
    kind_cluster: String,
}

impl Access {
    /// # Errors
    /// When the environment does not name a cluster that can be read.
    pub async fn from_environment() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var(name).with_context(|| {
                format!("{name} is not set: run `cargo xtask test --only kubernetes`")
            })
        };
        let kubeconfig = PathBuf::from(variable(KUBECONFIG)?);
        let config = Config::from_custom_kubeconfig(
            Kubeconfig::read_from(&kubeconfig)?,
            &KubeConfigOptions::default(),
        )
        .await?;
        Ok(Self {
            client: Client::try_from(config)?,
            kubeconfig,
            kind_cluster: variable(KIND_CLUSTER)?,
        })
    }

    /// `kubectl` of the cluster.
    #[must_use]
    pub fn kubectl(&self) -> Tool {
        Tool::new("kubectl").env("KUBECONFIG", &self.kubeconfig)
    }

    /// Makes the images of an archive known to the nodes.
    ///
    /// # Errors
    /// When kind cannot.
    pub fn load_images(&self, archive: &Path) -> Result<()> {
        Tool::new("kind")
            .args(["load", "image-archive", "--name", &self.kind_cluster])
            .args([archive])
            .time_limit(LOAD_LIMIT)
            .run()?;
        Ok(())
    }
}
