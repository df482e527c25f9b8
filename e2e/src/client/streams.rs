//! `e2e/clients/streams/WordCount.java`: an application of Kafka Streams.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::jvm::{compiled, java};
use crate::cache::client_sources;
use crate::maven::{classpath, kafka_version};
use crate::process::Signal;
use crate::tool::{Running, Tool};

const HEAP_MIB: u32 = 256;
/// Creating its topics, joining, and restoring what a killed instance may have left in a
/// transaction.
const RUNNING_LIMIT: Duration = Duration::from_secs(90);
const PRINT_LIMIT: Duration = Duration::from_secs(30);
const CLOSE_LIMIT: Duration = Duration::from_secs(45);

/// The application against one cluster.
#[derive(Debug)]
pub struct WordCount {
    classpath: String,
    bootstrap: String,
    /// The application, and what its topics begin with
    name: String,
    begin_ms: u64,
    window: Duration,
}

impl WordCount {
    /// Compiles it, and resolves its jars, which takes a network the first time. Event time begins
    /// at `begin_ms` and goes on by a millisecond a line; counts are per `window` of it.
    ///
    /// # Errors
    /// When Maven or the compiler can't.
    pub fn new(bootstrap: &str, name: &str, begin_ms: u64, window: Duration) -> Result<Self> {
        let sources = client_sources("streams");
        let jars = classpath("streams", &pom())?;
        let classes = compiled("streams-word-count", &sources, &["WordCount"], &jars)?;
        Ok(Self {
            classpath: format!("{}:{jars}", classes.display()),
            bootstrap: bootstrap.to_owned(),
            name: name.to_owned(),
            begin_ms,
            window,
        })
    }

    /// The version of Kafka Streams.
    ///
    /// # Errors
    /// When the file that pins it can't be read.
    pub fn version() -> Result<String> {
        kafka_version(&pom())
    }

    /// Starts an instance that keeps its state in the directory, and waits until it runs, restored.
    ///
    /// # Errors
    /// When it does not.
    pub fn start(&self, state: &Path) -> Result<Instance> {
        let (running, stdin) = self.tool(state).spawn_with_stdin()?;
        let mut instance = Instance { running, stdin };
        instance
            .running
            .wait_for("the instance runs", RUNNING_LIMIT, |running| {
                last_state(&running.stdout()) == Some("RUNNING")
            })?;
        Ok(instance)
    }

    fn tool(&self, state: &Path) -> Tool {
        java(HEAP_MIB, &self.classpath, "WordCount")
            .args([&self.bootstrap, &self.name])
            .args([state])
            .args([self.begin_ms.to_string()])
            .args([self.window.as_millis().to_string()])
    }
}

fn pom() -> PathBuf {
    client_sources("streams").join("pom.xml")
}

fn last_state(stdout: &str) -> Option<&str> {
    stdout
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("state "))
}

/// An instance of the application; it is killed when it is dropped.
#[derive(Debug)]
pub struct Instance {
    running: Running,
    stdin: ChildStdin,
}

impl Instance {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// How many records of changelogs its stores of that name were restored from so far.
    #[must_use]
    pub fn restored(&self, store: &str) -> u64 {
        let stdout = self.running.stdout();
        let start = format!("restored {store} ");
        // restored STORE PARTITION COUNT
        let lines = stdout.lines().filter_map(|line| line.strip_prefix(&start));
        let counts = lines.filter_map(|rest| rest.split(' ').nth(1)?.parse::<u64>().ok());
        counts.sum()
    }

    /// What it has in its stores of that name.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn store(&mut self, store: &str) -> Result<BTreeMap<String, u64>> {
        writeln!(self.stdin, "{store}")?;
        let end = format!("printed {store}");
        self.running
            .wait_for("the store is printed", PRINT_LIMIT, |running| {
                running.stdout().lines().any(|line| line == end)
            })?;
        let stdout = self.running.stdout();
        let start = format!("stored {store} ");
        let entries = stdout.lines().filter_map(|line| line.strip_prefix(&start));
        entries
            .map(|entry| {
                let (key, count) = entry.split_once(' ').context("no count")?;
                Ok((key.to_owned(), count.parse()?))
            })
            .collect()
    }

    /// Has it close.
    ///
    /// # Errors
    /// When it does not in time, or failed before.
    pub fn stop(mut self) -> Result<()> {
        self.running.stop(Signal::TERM, CLOSE_LIMIT).map(drop)
    }

    /// What it printed to stderr last, for a failed test.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }
}
