//! Writes container images as an archive, without a container engine: an OCI image layout in a tar
//! file, which containerd, Podman and Docker load alike.
//!
//! The same content gives the same bytes: names are sorted, times are zero, owners are root. Images
//! in one archive share the layers they have in common.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// One entry of a layer.
pub(crate) enum Node {
    Directory { mode: u32 },
    File { source: PathBuf, mode: u32 },
    Text { content: String, mode: u32 },
    Symlink { target: PathBuf },
}

/// The files of a layer by their path, relative to the root.
#[derive(Default)]
pub(crate) struct Layer(BTreeMap<PathBuf, Node>);

impl Layer {
    pub(crate) fn directory(mut self, path: &str, mode: u32) -> Self {
        self.0.insert(path.into(), Node::Directory { mode });
        self
    }

    pub(crate) fn file(mut self, path: &str, source: impl Into<PathBuf>, mode: u32) -> Self {
        self.0.insert(
            path.into(),
            Node::File {
                source: source.into(),
                mode,
            },
        );
        self
    }

    pub(crate) fn text(mut self, path: &str, content: impl Into<String>, mode: u32) -> Self {
        self.0.insert(
            path.into(),
            Node::Text {
                content: content.into(),
                mode,
            },
        );
        self
    }

    pub(crate) fn symlink(mut self, path: &str, target: &str) -> Self {
        self.0.insert(
            path.into(),
            Node::Symlink {
                target: target.into(),
            },
        );
        self
    }

    /// Everything below `root`.
    pub(crate) fn from_directory(root: &Path) -> Result<Self> {
        let mut layer = Self::default();
        layer.add_directory(root, Path::new(""))?;
        Ok(layer)
    }

    fn add_directory(&mut self, root: &Path, relative: &Path) -> Result<()> {
        for entry in fs::read_dir(root.join(relative))? {
            let path = relative.join(entry?.file_name());
            let source = root.join(&path);
            let metadata = source.symlink_metadata()?;
            let mode = metadata.permissions().mode() & 0o7777;
            let node = if metadata.is_symlink() {
                Node::Symlink {
                    target: fs::read_link(&source)?,
                }
            } else if metadata.is_dir() {
                self.add_directory(root, &path)?;
                Node::Directory { mode }
            } else {
                Node::File { source, mode }
            };
            self.0.insert(path, node);
        }
        Ok(())
    }

    fn write(&self, file: File) -> Result<File> {
        let mut tar = tar::Builder::new(file);
        for (path, node) in &self.0 {
            let mut header = header(0);
            match node {
                Node::Directory { mode } => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(*mode);
                    tar.append_data(&mut header, path, io::empty())?;
                }
                Node::File { source, mode } => {
                    let content = File::open(source)
                        .with_context(|| format!("cannot read {}", source.display()))?;
                    header.set_size(content.metadata()?.size());
                    header.set_mode(*mode);
                    tar.append_data(&mut header, path, content)?;
                }
                Node::Text { content, mode } => {
                    header.set_size(content.len().try_into()?);
                    header.set_mode(*mode);
                    tar.append_data(&mut header, path, content.as_bytes())?;
                }
                Node::Symlink { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    tar.append_link(&mut header, path, target)?;
                }
            }
        }
        Ok(tar.into_inner()?)
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// An image: names to know it by, what runs in it, and its layers from the lowest up.
pub(crate) struct Image<'a> {
    pub(crate) names: Vec<String>,
    /// The `config` object of the OCI image configuration: `Entrypoint`, `Env`, `User`, `Labels`
    /// and so on.
    pub(crate) config: Value,
    pub(crate) layers: Vec<&'a Blob>,
}

/// A file of the archive, known by its content.
#[derive(Clone)]
pub(crate) struct Blob {
    digest: String,
    size: u64,
    file: PathBuf,
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }

    /// Enough of the digest to tell builds apart.
    pub(crate) fn short_digest(&self) -> &str {
        &self.digest[..12]
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

/// Collects blobs in a scratch directory and then writes the archive.
pub(crate) struct Archive {
    scratch: PathBuf,
    blobs: BTreeMap<String, Blob>,
    manifests: Vec<Value>,
    /// What Docker reads instead of the OCI index.
    docker_manifests: Vec<Value>,
}

impl Archive {
    /// `scratch` is created, and removed again by [`Archive::finish`].
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        fs::create_dir_all(scratch)
            .with_context(|| format!("cannot create {}", scratch.display()))?;
        Ok(Self {
            scratch: scratch.to_owned(),
            blobs: BTreeMap::new(),
            manifests: Vec::new(),
            docker_manifests: Vec::new(),
        })
    }

    /// Stores a layer; the blob can be part of any number of images.
    pub(crate) fn layer(&mut self, layer: &Layer) -> Result<Blob> {
        let path = self.scratch.join("incoming");
        let mut file = layer.write(File::create_new(&path)?)?;
        file.flush()?;
        self.store(&path)
    }

    pub(crate) fn image(&mut self, image: &Image<'_>) -> Result<()> {
        let diff_ids: Vec<_> = image
            .layers
            .iter()
            .map(|l| format!("sha256:{}", l.digest))
            .collect();
        let config = self.json(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": image.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }))?;
        let layers: Vec<_> = image
            .layers
            .iter()
            .map(|layer| layer.descriptor(LAYER_TYPE))
            .collect();
        let manifest = self.json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config.descriptor(CONFIG_TYPE),
            "layers": layers,
        }))?;
        for name in &image.names {
            let mut descriptor = manifest.descriptor(MANIFEST_TYPE);
            descriptor["annotations"] = json!({
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            });
            self.manifests.push(descriptor);
        }
        self.docker_manifests.push(json!({
            "Config": config.path(),
            "RepoTags": image.names,
            "Layers": image.layers.iter().map(|layer| layer.path()).collect::<Vec<_>>(),
        }));
        Ok(())
    }

    /// Writes the archive to `target` and removes the scratch directory.
    pub(crate) fn finish(self, target: &Path) -> Result<()> {
        let file =
            File::create(target).with_context(|| format!("cannot write {}", target.display()))?;
        let mut tar = tar::Builder::new(file);
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        for (name, value) in [
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
            ("index.json", index),
            ("manifest.json", json!(self.docker_manifests)),
        ] {
            let content = value.to_string();
            let mut header = header(content.len().try_into()?);
            tar.append_data(&mut header, name, content.as_bytes())?;
        }
        for blob in self.blobs.values() {
            tar.append_data(&mut header(blob.size), blob.path(), File::open(&blob.file)?)?;
        }
        tar.into_inner()?.flush()?;
        fs::remove_dir_all(&self.scratch)
            .with_context(|| format!("cannot remove {}", self.scratch.display()))
    }

    fn json(&mut self, value: &Value) -> Result<Blob> {
        let path = self.scratch.join("incoming");
        fs::write(&path, value.to_string())?;
        self.store(&path)
    }

    fn store(&mut self, incoming: &Path) -> Result<Blob> {
        let (digest, size) = hash(incoming)?;
        let file = self.scratch.join(&digest);
        fs::rename(incoming, &file)?;
        let blob = Blob {
            digest: digest.clone(),
            size,
            file,
        };
        self.blobs.insert(digest, blob.clone());
        Ok(blob)
    }
}

/// The SHA-256 of a file in hexadecimal, and the file's length in bytes.
pub(crate) fn hash(path: &Path) -> Result<(String, u64)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut sha = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        sha.update(&buffer[..length]);
    }
    let digest = sha
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok((digest, file.stream_position()?))
}

/// This machine's architecture by its name in images.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path) -> Vec<u8> {
        let mut archive = Archive::new(&directory.join("scratch")).unwrap();
        let shared = Layer::default()
            .directory("tmp", 0o1777)
            .text("etc/passwd", "root:x:0:0\n", 0o644)
            .symlink("bin", "usr/bin");
        let shared = archive.layer(&shared).unwrap();
        for name in ["localhost/a:1", "localhost/b:1"] {
            let config = json!({"Entrypoint": [name]});
            let names = vec![name.to_owned()];
            archive
                .image(&Image {
                    names,
                    config,
                    layers: vec![&shared],
                })
                .unwrap();
        }
        let target = directory.join("images.tar");
        archive.finish(&target).unwrap();
        fs::read(target).unwrap()
    }

    fn content(archive: &[u8], path: &str) -> Vec<u8> {
        let mut archive = tar::Archive::new(archive);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let mut entry = entries
            .find(|e| e.path().unwrap() == Path::new(path))
            .unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn blob(archive: &[u8], descriptor: &Value) -> Vec<u8> {
        let digest = descriptor["digest"]
            .as_str()
            .unwrap()
            .strip_prefix("sha256:")
            .unwrap();
        let bytes = content(archive, &format!("blobs/sha256/{digest}"));
        assert_eq!(descriptor["size"], bytes.len());
        let actual = Sha256::digest(&bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>();
        assert_eq!(actual, digest);
        bytes
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        assert!(write(directories[0].path()) == write(directories[1].path()));
    }

    #[test]
    fn every_descriptor_leads_to_the_blob_it_describes() {
        let directory = tempfile::tempdir().unwrap();
        let archive = write(directory.path());
        let index: Value = serde_json::from_slice(&content(&archive, "index.json")).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 2);
        for descriptor in manifests {
            let name = &descriptor["annotations"]["io.containerd.image.name"];
            let manifest: Value = serde_json::from_slice(&blob(&archive, descriptor)).unwrap();
            let config: Value =
                serde_json::from_slice(&blob(&archive, &manifest["config"])).unwrap();
            assert_eq!(&config["config"]["Entrypoint"][0], name);
            assert_eq!(
                config["rootfs"]["diff_ids"][0],
                manifest["layers"][0]["digest"]
            );
            let layer = blob(&archive, &manifest["layers"][0]);
            assert_eq!(content(&layer, "etc/passwd"), b"root:x:0:0\n");
        }
        assert!(!directory.path().join("scratch").exists());
    }
}
