//! What a node image is made from, as a hash.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::kind::tools::KIND;
use crate::oci::architecture;

const RECIPE: [&str; 2] = [include_str!("build.rs"), include_str!("images.rs")];

/// Hashes every file that the image is made from, and what says how.
pub(super) fn hash_inputs(sources: &Path) -> Result<String> {
    let mut files = Vec::new();
    list_files(sources, &mut files)?;
    files.sort();
    let mut sha = Sha256::new();
    for file in files {
        sha.update(file.strip_prefix(sources)?.as_os_str().as_encoded_bytes());
        sha.update(fs::read(&file)?);
    }
    for recipe in RECIPE {
        sha.update(recipe);
    }
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
