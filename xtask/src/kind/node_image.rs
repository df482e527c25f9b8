//! The image that kind's nodes run: `kindest/node` where it can be pulled, else one built from Debian packages
//! and Go modules by the files under `e2e/kind/`.
//!
//! A built image is named after a hash of all its inputs, so it is built again exactly when one of them changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::engine::Engine;
use super::tools::{self, KIND};
use crate::oci::{Archive, Image, Layer, architecture};
use crate::paths;
use crate::process::{announce, output, run, run_quiet};

/// The Kubernetes release of the built image. Kubernetes' own modules in `e2e/kind/kubernetes/go.mod` match it.
const KUBERNETES_VERSION: &str = "1.34.4";
/// kind v0.30.0's own image of the same minor release.
const STOCK_IMAGE: &str = "docker.io/kindest/node:v1.34.0";
const REGISTRY: &str = "registry.k8s.io";

/// Where the node image comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// The stock image if it is here or can be pulled, else packages
    Auto,
    /// kindest/node
    Stock,
    /// Build it from Debian packages and Go modules
    Packages,
}

/// A node image that the engine has.
pub(crate) struct NodeImage {
    pub(crate) name: String,
    /// A kubectl of the same release, where one was built.
    pub(crate) kubectl: Option<PathBuf>,
}

pub(crate) fn ensure(engine: &Engine, source: Source) -> Result<NodeImage> {
    let build = Build::new()?;
    let stock = || NodeImage {
        name: STOCK_IMAGE.to_owned(),
        kubectl: None,
    };
    if source != Source::Packages {
        if engine.has_image(STOCK_IMAGE) {
            return Ok(stock());
        }
        // An image built earlier says that pulling did not work then; asking again would cost a time-out.
        if source == Source::Stock || !engine.has_image(&build.image) {
            announce(format!("pulling {STOCK_IMAGE}"));
            if engine.pull(STOCK_IMAGE) {
                return Ok(stock());
            }
            if source == Source::Stock {
                bail!("cannot pull {STOCK_IMAGE}: use --node-image packages to build one instead");
            }
            println!("    cannot be pulled here; building a node image from packages instead");
        }
    }
    build.ensure(engine)
}

/// One build: everything it makes lies below `directory`, whose name is the hash of the inputs.
struct Build {
    sources: PathBuf,
    directory: PathBuf,
    image: String,
}

impl Build {
    fn new() -> Result<Self> {
        let sources = paths::repository().join("e2e/kind");
        let hash = hash_inputs(&sources)?;
        Ok(Self {
            sources,
            directory: paths::cache()?.join("kind").join(&hash),
            image: format!("localhost/klamm-kind-node:v{KUBERNETES_VERSION}-{hash}"),
        })
    }

    fn ensure(&self, engine: &Engine) -> Result<NodeImage> {
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

    fn binary(&self, name: &str) -> PathBuf {
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

    /// These share one layer: they are one binary.
    fn add_kubernetes_images(&self, archive: &mut Archive, tools: &Path) -> Result<()> {
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

    fn add_other_images(&self, archive: &mut Archive) -> Result<()> {
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

fn entrypoint(program: &str) -> serde_json::Value {
    json!({
        "Entrypoint": [program],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "WorkingDir": "/",
    })
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

/// kind publishes the files of its base image with its Go module; none of them is copied into this repository.
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

/// Hashes every file that the image is made from, this one included.
fn hash_inputs(sources: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(sources, &mut files)?;
    files.sort();
    let mut sha = Sha256::new();
    for file in files {
        sha.update(file.strip_prefix(sources)?.as_os_str().as_encoded_bytes());
        sha.update(fs::read(&file)?);
    }
    sha.update(include_bytes!("node_image.rs"));
    sha.update(KIND.version);
    sha.update(architecture());
    Ok(sha
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn list_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            list_files(&path, files)?;
        } else if path.extension().is_none_or(|extension| extension != "md") {
            files.push(path);
        }
    }
    Ok(())
}

fn require_root() -> Result<()> {
    if output(Command::new("id").arg("--user"))? != "0" {
        bail!(
            "building a node image needs root (it installs Debian packages into a directory): run this \
             as root, or where {STOCK_IMAGE} can be pulled"
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
