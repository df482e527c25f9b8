//! Classpaths that Maven resolves, each from one file with pinned versions.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::cache::built;
use crate::tool::Tool;

const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// The jars that the file names, and what they need, with `:` between; takes a network the first
/// time.
///
/// # Errors
/// When Maven can't resolve them.
pub fn classpath(name: &str, pom: &Path) -> Result<String> {
    let directory = built(name, &[pom.to_owned()], |directory| {
        let file = directory.join("classpath");
        Tool::new("mvn")
            .args(["--quiet", "--batch-mode", "--file"])
            .args([pom])
            .args(["dependency:build-classpath"])
            .args([format!("-Dmdep.outputFile={}", file.display())])
            .time_limit(FETCH_LIMIT)
            .run()?;
        Ok(())
    })?;
    let file = directory.join("classpath");
    let text = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// The version of Kafka that the file pins.
///
/// # Errors
/// When it pins none.
pub fn kafka_version(pom: &Path) -> Result<String> {
    let text = fs::read_to_string(pom).with_context(|| format!("no {}", pom.display()))?;
    let after = text.split_once("<kafka.version>").map(|(_, after)| after);
    let version = after.and_then(|after| after.split_once("</kafka.version>"));
    let (version, _) = version.with_context(|| format!("no version in {}", pom.display()))?;
    Ok(version.to_owned())
}
