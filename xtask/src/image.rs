//! The container image of operator and broker: two static binaries and nothing else to run, written
//! without a container engine.
//!
//! The stages are those of the `Dockerfile`, which is for publishing.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::oci::{Archive, Image, Layer};
use crate::paths;
use crate::process::{announce, output, run};
use crate::workspace::{cargo, target_directory};

pub(crate) const DEFAULT_TAG: &str = "klamm:dev";

const USER_ID: u32 = 65532;
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The release binaries, linked statically: they run here as well as in the image.
pub(crate) struct Binaries {
    pub(crate) broker: PathBuf,
    pub(crate) operator: PathBuf,
    pub(crate) cli: PathBuf,
}

impl Binaries {
    pub(crate) fn build() -> Result<Self> {
        announce("building klamm-broker, klamm-operator and klamm (release, static)");
        let directory = build_release(&[])?;
        Ok(Self {
            broker: directory.join("klamm-broker"),
            operator: directory.join("klamm-operator"),
            cli: directory.join("klamm"),
        })
    }
}

/// Builds what is released, and `others` with the same dependencies; returns the directory with the
/// programs.
pub(crate) fn build_release(others: &[&str]) -> Result<PathBuf> {
    let target = host_target()?;
    // Not in .cargo/config.toml: with --target the flag spares build scripts and procedural macros,
    // which cannot be linked statically.
    let flags = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.to_uppercase().replace('-', "_")
    );
    let mut command = cargo();
    command.args(["build", "--release", "--locked", "--target", &target]);
    for package in ["klamm-broker", "klamm-operator", "klamm-cli"]
        .iter()
        .chain(others)
    {
        command.args(["--package", package]);
    }
    run(command.env(flags, "-C target-feature=+crt-static"))?;
    Ok(target_directory()?.join(target).join("release"))
}

/// An image in an archive.
pub(crate) struct BuiltImage {
    pub(crate) archive: PathBuf,
    /// The tag asked for, with a registry.
    pub(crate) name: String,
    /// The repository without tag, and a tag that changes with the content: Kubernetes restarts
    /// what runs an image only when its name changes.
    pub(crate) repository: String,
    pub(crate) content_tag: String,
}

/// Writes the image archive into Cargo's target directory.
pub(crate) fn build(tag: &str, binaries: &Binaries) -> Result<BuiltImage> {
    announce(format!("writing image {tag}"));
    let directory = target_directory()?;
    let path = directory.join("klamm-image.tar");
    let mut archive = Archive::new(&directory.join("klamm-image"))?;

    let base = archive.layer(&base_layer())?;
    let programs = archive.layer(
        &Layer::default()
            .file("klamm-broker", &binaries.broker, 0o755)
            .file("klamm-operator", &binaries.operator, 0o755)
            .file("klamm", &binaries.cli, 0o755),
    )?;
    let name = qualified(tag);
    let (repository, _) = name.rsplit_once(':').context("the tag has no version")?;
    let repository = repository.to_owned();
    let content_tag = programs.short_digest().to_owned();
    archive.image(&Image {
        names: vec![name.clone(), format!("{repository}:{content_tag}")],
        config: configuration(),
        layers: vec![&base, &programs],
    })?;
    archive.finish(&path)?;

    let bytes = path.metadata()?.len();
    println!("    {} ({} MiB)", path.display(), bytes >> 20);
    Ok(BuiltImage {
        archive: path,
        name,
        repository,
        content_tag,
    })
}

fn base_layer() -> Layer {
    let layer = Layer::default()
        .directory("tmp", 0o1777)
        .directory("etc", 0o755)
        .text(
            "etc/passwd",
            format!("klamm:x:{USER_ID}:{USER_ID}::/:/sbin/nologin\n"),
            0o644,
        )
        .text("etc/group", format!("klamm:x:{USER_ID}:\n"), 0o644);
    if !Path::new(CERTIFICATES).exists() {
        return layer;
    }
    layer.file(&CERTIFICATES[1..], CERTIFICATES, 0o644)
}

fn configuration() -> serde_json::Value {
    json!({
        "Entrypoint": ["/klamm-broker"],
        "User": format!("{USER_ID}:{USER_ID}"),
        "WorkingDir": "/",
        "ExposedPorts": {"9092/tcp": {}},
        "Labels": {
            "org.opencontainers.image.title": "klamm",
            "org.opencontainers.image.description": "Kafka-compatible broker and its Kubernetes operator",
            "org.opencontainers.image.source": env!("CARGO_PKG_REPOSITORY"),
            "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            "org.opencontainers.image.revision": revision(),
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    })
}

/// Empty in a source archive, which has no revision.
fn revision() -> String {
    let mut git = Command::new("git");
    output(
        git.current_dir(paths::repository())
            .args(["rev-parse", "HEAD"]),
    )
    .unwrap_or_default()
}

/// Kubernetes would look for a name without a registry on Docker Hub.
fn qualified(tag: &str) -> String {
    let tag = if tag.contains('/') {
        tag.to_owned()
    } else {
        format!("localhost/{tag}")
    };
    let last = tag.rsplit('/').next().unwrap_or(&tag);
    if last.contains(':') {
        tag
    } else {
        format!("{tag}:dev")
    }
}

fn host_target() -> Result<String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::qualified;

    #[test]
    fn tags_get_a_registry_and_a_version() {
        assert_eq!(qualified("klamm"), "localhost/klamm:dev");
        assert_eq!(qualified("klamm:1"), "localhost/klamm:1");
        assert_eq!(
            qualified("localhost:5000/klamm"),
            "localhost:5000/klamm:dev"
        );
        assert_eq!(
            qualified("ghcr.io/klamm-dev/klamm:2"),
            "ghcr.io/klamm-dev/klamm:2"
        );
    }
}
