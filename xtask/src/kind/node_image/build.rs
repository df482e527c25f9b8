//! Builds a node image from Debian packages and Go modules, with the files under `e2e/kind/`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::{NodeImage, inputs};
use crate::kind::engine::Engine;
use crate::kind::tools::{self, KIND};
use crate::oci::Archive;
use crate::paths;
use crate::process::{announce, output, run, run_quiet};

/// Kubernetes' own modules in `e2e/kind/kubernetes/go.mod` are of this release.
pub(super) const KUBERNETES_VERSION: &str = "1.34.4";

/// One build: everything it makes lies below `directory`, whose name is the hash of the inputs.
pub(super) struct Build {
    sources: PathBuf,
    directory: PathBuf,
    pub(super) image: String,
}

impl Build {
    pub(super) fn new() -> Result<Self> {
        let sources = paths::repository().join("e2e/kind");
        let hash = inputs::hash_inputs(&sources)?;
        Ok(Self {
            sources,
            directory: paths::cache()?.join("kind").join(&hash),
            image: format!("localhost/klamm-kind-node:v{KUBERNETES_VERSION}-{hash}"),
        })
    }

    pub(super) fn ensure(&self, engine: &Engine) -> Result<NodeImage> {
        if !engine.has_image(&self.image) || !self.binary("kubectl").exists() {
            require_root()?;
            fs::create_dir_all(self.directory.join("bin"))?;
            self.timed("Go programs", Self::build_binaries)?;
            self.timed("root file system", Self::build_rootfs)?;
            self.timed("images of the control plane", Self::build_images)?;
            self.timed("node image", |build| build.import(engine))?;
            fs::remove_dir_all(self.rootfs())?;
        }
        Ok(NodeImage {
            name: self.image.clone(),
            kubectl: Some(self.binary("kubectl")),
        })
    }

    fn timed(&self, what: &str, step: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        announce(format!("node image: {what}"));
        let start = Instant::now();
        step(self).with_context(|| format!("cannot make the {what} of the node image"))?;
        println!("    {:.1} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    pub(super) fn binary(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }

    fn rootfs(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    fn archive(&self) -> PathBuf {
        self.directory.join("images.tar")
    }

    fn build_binaries(&self) -> Result<()> {
        println!("    (about ten minutes on two cores when Go's build cache is empty)");
        let version = kubernetes_ldflags();
        for (module, package, program, ldflags) in [
            ("kubernetes", "./cmd/kubeall", "kubeall", version.as_str()),
            ("kubernetes", "./cmd/pause", "pause", "-s -w"),
            ("coredns", ".", "coredns", "-s -w"),
            ("etcd", ".", "etcd", "-s -w"),
        ] {
            run(tools::go()
                .current_dir(self.sources.join(module))
                .args(["build", "-trimpath", "-ldflags", ldflags, "-o"])
                .arg(self.binary(program))
                .arg(package))?;
        }
        for program in ["kubeadm", "kubectl"] {
            replace_symlink("kubeall", &self.binary(program))?;
        }
        Ok(())
    }

    fn build_rootfs(&self) -> Result<()> {
        remove_if_present(&self.rootfs())?;
        run(self
            .script("build-rootfs.sh")
            .arg(self.rootfs())
            .env("BIN", self.directory.join("bin"))
            .env("KIND_BASE_FILES", kind_base_files()?)
            .env("MANIFESTS", self.sources.join("manifests"))
            .env("KUBERNETES_VERSION", format!("v{KUBERNETES_VERSION}")))
    }

    fn build_images(&self) -> Result<()> {
        let tools = self.directory.join("tools");
        remove_if_present(&tools)?;
        run(self
            .script("collect-tools.sh")
            .arg(self.rootfs())
            .arg(&tools))?;

        let scratch = self.directory.join("blobs");
        remove_if_present(&scratch)?;
        let mut archive = Archive::new(&scratch)?;
        self.add_kubernetes_images(&mut archive, &tools)?;
        self.add_other_images(&mut archive)?;
        archive.finish(&self.archive())?;
        fs::remove_dir_all(tools)?;

        run(self
            .script("import-images.sh")
            .arg(self.rootfs())
            .arg(self.archive()))?;
        fs::remove_file(self.archive())?;
        Ok(())
    }

    /// Streams the root file system into the engine's image store.
    fn import(&self, engine: &Engine) -> Result<()> {
        let mut tar = Command::new("tar")
            .args(["--numeric-owner", "--create", "--directory"])
            .arg(self.rootfs())
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start tar")?;
        let content = tar.stdout.take().context("tar has no output")?;
        let status = engine
            .command()
            .args([
                "import",
                "--change",
                "ENTRYPOINT [\"/usr/local/bin/entrypoint\", \"/sbin/init\"]",
            ])
            .args([
                "--change",
                "ENV container=docker",
                "--change",
                "STOPSIGNAL SIGRTMIN+3",
            ])
            .args(["-", &self.image])
            .stdin(content)
            .stdout(Stdio::null())
            .status()
            .context("cannot start the container engine")?;
        if !tar.wait()?.success() || !status.success() {
            bail!("the import of the root file system failed with {status}");
        }
        Ok(())
    }

    fn script(&self, name: &str) -> Command {
        Command::new(self.sources.join("node").join(name))
    }
}

/// The version that Kubernetes' programs report, which kubeadm compares between them.
fn kubernetes_ldflags() -> String {
    let package = "k8s.io/component-base/version";
    let minor = KUBERNETES_VERSION
        .split('.')
        .nth(1)
        .expect("the version has three parts");
    let commit = "0".repeat(40);
    [
        format!("gitVersion=v{KUBERNETES_VERSION}"),
        "gitMajor=1".to_owned(),
        format!("gitMinor={minor}"),
        format!("gitCommit={commit}"),
        "gitTreeState=clean".to_owned(),
        "buildDate=2026-01-01T00:00:00Z".to_owned(),
    ]
    .iter()
    .fold("-s -w".to_owned(), |flags, variable| {
        format!("{flags} -X {package}.{variable}")
    })
}

/// kind publishes the files of its base image with its Go module; none of them is copied into this
/// repository.
fn kind_base_files() -> Result<PathBuf> {
    let module = format!("sigs.k8s.io/kind@{}", KIND.version);
    run_quiet(
        tools::go()
            .current_dir(std::env::temp_dir())
            .args(["mod", "download", &module]),
    )?;
    let cache = output(tools::go().args(["env", "GOMODCACHE"]))?;
    Ok(Path::new(&cache).join(module).join("images/base/files"))
}

fn require_root() -> Result<()> {
    if output(Command::new("id").arg("--user"))? != "0" {
        bail!(
            "building a node image needs root (it installs Debian packages into a directory): run this \
             as root, or where the stock node image can be pulled"
        );
    }
    Ok(())
}

fn remove_if_present(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn replace_symlink(target: &str, link: &Path) -> Result<()> {
    if link.symlink_metadata().is_ok() {
        fs::remove_file(link)?;
    }
    symlink(target, link).with_context(|| format!("cannot create {}", link.display()))
}
