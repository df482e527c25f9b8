//! Installs the Helm chart into a cluster of [`crate::kind`].

use anyhow::{Context as _, Result};

use crate::image::BuiltImage;
use crate::kind::cluster::Cluster;
use crate::paths;
use crate::process::{announce, run_quiet};

/// Which namespaces the operator manages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Its own, `default`
    Namespace,
    /// All of them
    Cluster,
}

/// Installs or upgrades the release `klamm` in namespace `default` and waits until the operator is
/// ready.
pub(crate) fn install(cluster: &Cluster, image: &BuiltImage, scope: Scope) -> Result<()> {
    announce("installing the Helm chart");
    let chart = paths::repository().join("charts/klamm");
    let result = run_quiet(
        cluster
            .helm()?
            .args(["upgrade", "--install", "klamm"])
            .arg(chart)
            .args(["--namespace=default", "--wait", "--timeout=120s"])
            .arg(format!("--set=image.repository={}", image.repository))
            .arg(format!("--set-string=image.tag={}", image.content_tag))
            .arg(format!("--set=clusterWide={}", scope == Scope::Cluster)),
    );
    if result.is_err() {
        print_state(cluster)?;
    }
    result.context("the operator did not become ready")
}

/// Prints what helps to find out why something in the cluster does not get ready.
pub(crate) fn print_state(cluster: &Cluster) -> Result<()> {
    for arguments in [
        &[
            "get",
            "kafkaclusters,topics,pods,persistentvolumeclaims,services",
            "--output=wide",
        ][..],
        &["get", "events", "--sort-by=.lastTimestamp"],
        &["logs", "deployment/klamm", "--tail=50"],
    ] {
        println!("--- kubectl {}", arguments.join(" "));
        // Whatever cannot be shown is part of the picture; the rest still is of use.
        cluster
            .kubectl()?
            .args(arguments)
            .status()
            .context("cannot start kubectl")?;
    }
    Ok(())
}
