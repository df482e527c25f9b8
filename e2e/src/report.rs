//! What the cases of a target came to, kept for the table of clients.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The environment variable with the directory to which targets write what their cases came to;
/// without it they do not.
pub const REPORTS: &str = "KLAMM_E2E_REPORTS";

/// The cases of one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub target: String,
    /// By the name of the client
    pub versions: BTreeMap<String, String>,
    /// In the order in which they ran
    pub cases: Vec<CaseReport>,
}

/// One case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseReport {
    /// With the name of the client before it: `CLIENT: CASE`
    pub name: String,
    pub outcome: Outcome,
}

/// What a case came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Passed,
    Failed,
    /// With the reason.
    Skipped(String),
}

impl Report {
    #[must_use]
    pub fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            versions: BTreeMap::new(),
            cases: Vec::new(),
        }
    }

    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Failed)
    }

    #[must_use]
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    fn count(&self, wanted: fn(&Outcome) -> bool) -> usize {
        let outcomes = self.cases.iter().map(|case| &case.outcome);
        outcomes.filter(|outcome| wanted(outcome)).count()
    }

    /// Writes it into the directory that [`REPORTS`] names, if it names one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self) -> Result<()> {
        let Some(directory) = std::env::var_os(REPORTS).map(PathBuf::from) else {
            return Ok(());
        };
        fs::create_dir_all(&directory)?;
        let file = directory.join(format!("{}.json", self.target));
        fs::write(&file, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("can't write {}", file.display()))
    }

    /// Reads all reports of a directory.
    ///
    /// # Errors
    /// When one of them is none.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>> {
        let mut reports = Vec::new();
        let entries = fs::read_dir(directory)
            .with_context(|| format!("can't read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            let text = fs::read_to_string(&path)?;
            let report = serde_json::from_str(&text);
            reports.push(report.with_context(|| format!("no report: {}", path.display()))?);
        }
        Ok(reports)
    }
}
