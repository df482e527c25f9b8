//! What tests fetch or build once: under the user's cache directory, never in the checkout.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Written last, so that an interrupted build is repeated.
const COMPLETE: &str = "complete";

/// The directory with the programs of the clients.
#[must_use]
pub fn client_sources(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients")
        .join(language)
}

/// Returns the directory that holds what `build` made of the `inputs`; builds it if one of them
/// changed or it is not there. Processes that want the same wait for each other.
///
/// # Errors
/// When an input can't be read, the directory not written, or `build` fails.
pub fn built(
    name: &str,
    inputs: &[PathBuf],
    build: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let root = cache_root()?.join("klamm/clients");
    let directory = root.join(format!("{name}-{:016x}", fingerprint(inputs)?));
    fs::create_dir_all(&root).with_context(|| format!("can't create {}", root.display()))?;
    let lock = File::create(root.join(format!("{name}.lock")))?;
    lock.lock()?;
    if !directory.join(COMPLETE).exists() {
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        println!("preparing {name} in {}", directory.display());
        build(&directory).with_context(|| format!("can't prepare {name}"))?;
        File::create(directory.join(COMPLETE))?;
    }
    Ok(directory)
}

fn cache_root() -> Result<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    from("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| from("HOME").map(|home| Path::new(&home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")
}

/// Differs when an input differs; a new Rust may change it too, which costs one build.
fn fingerprint(inputs: &[PathBuf]) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for input in inputs {
        fs::read(input)
            .with_context(|| format!("can't read {}", input.display()))?
            .hash(&mut hasher);
    }
    Ok(hasher.finish())
}
