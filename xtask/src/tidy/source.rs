//! The text files of the checkout, as the rules see them.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::paths;
use crate::process::output;

/// A text file of the project.
pub(super) struct SourceFile {
    /// Relative to the root of the checkout.
    pub(super) path: String,
    pub(super) text: String,
}

impl SourceFile {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the whole file is test code.
    pub(super) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.ends_with("/properties.rs")
            || self.path.split('/').any(|part| part == "tests")
    }

    /// The lines with their numbers from 1 up to the unit tests, which by convention end a file.
    pub(super) fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = || self.text.lines();
        let tests = lines()
            .zip(lines().skip(1))
            .position(|(line, next)| line == "#[cfg(test)]" && next.starts_with("mod "));
        let end = tests.unwrap_or(usize::MAX);
        self.text
            .lines()
            .take(end)
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// Every file that is or could be committed; what is not UTF-8 is not text.
pub(super) fn read_all() -> Result<Vec<SourceFile>> {
    let root = paths::repository();
    let list = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))
    .context("cannot list the files of the checkout")?;
    let mut files = Vec::new();
    for path in list.lines() {
        // A file that was deleted but not yet committed is still listed.
        if let Ok(bytes) = fs::read(root.join(path))
            && let Ok(text) = String::from_utf8(bytes)
        {
            files.push(SourceFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    Ok(files)
}
