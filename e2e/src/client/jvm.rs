//! Java programs: how they are compiled, and how they are started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::cache::{built, client_sources};
use crate::tool::Tool;

const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// The collector and the compiler that start fast suit programs that live for a minute.
pub(super) const OPTIONS: [&str; 3] = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
];

/// The directory of these classes, whose sources lie, with the file that pins versions, in
/// `sources`; kept below `name`.
pub(super) fn compiled(
    name: &str,
    sources: &Path,
    classes: &[&str],
    classpath: &str,
) -> Result<PathBuf> {
    let files = classes.iter().map(|class| format!("{class}.java"));
    let files: Vec<_> = files.map(|file| sources.join(file)).collect();
    let inputs = [files.as_slice(), &[sources.join("pom.xml")]].concat();
    built(name, &inputs, |directory| {
        Tool::new("javac")
            .args(["-XDignore.symbol.file", "-cp", classpath, "-d"])
            .args([directory])
            .args(&files)
            .time_limit(COMPILE_LIMIT)
            .run()?;
        Ok(())
    })
}

/// The option that has a program print its warnings to stderr.
pub(super) fn logging() -> String {
    let file = client_sources("java").join("log4j2.properties");
    format!("-Dlog4j2.configurationFile={}", file.display())
}

/// The class's main method.
pub(super) fn java(heap_mib: u32, classpath: &str, class: &str) -> Tool {
    Tool::new("java")
        .args([format!("-Xmx{heap_mib}m")])
        .args(OPTIONS)
        .args([logging()])
        .args(["-cp", classpath, class])
}
