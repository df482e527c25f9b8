//! The cases of a test target that shares one cluster: run in order, named, counted.
//!
//! Targets that use it have `harness = false`, so that what they print is always seen. Arguments
//! without a leading dash select the cases whose names contain one of them.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

/// The cases of one target.
#[derive(Debug)]
pub struct Cases {
    target: String,
    selected: Vec<String>,
    passed: usize,
    failed: Vec<String>,
    start: Instant,
}

impl Cases {
    /// Begins a target; its cases are selected by the arguments of this process.
    #[must_use]
    pub fn new(target: &str) -> Self {
        let selected = std::env::args()
            .skip(1)
            .filter(|argument| !argument.starts_with('-'));
        println!("\n{target}");
        Self {
            target: target.to_owned(),
            selected: selected.collect(),
            passed: 0,
            failed: Vec::new(),
            start: Instant::now(),
        }
    }

    /// Runs a case if it is selected. A failed one does not keep the next ones from running.
    pub fn run(&mut self, name: &str, case: impl FnOnce() -> Result<()>) {
        if !self.selected.is_empty() && !self.selected.iter().any(|part| name.contains(part)) {
            return;
        }
        let start = Instant::now();
        let outcome = case();
        let seconds = start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("  passed {seconds:>6.1} s  {name}");
            }
            Err(error) => {
                self.failed.push(name.to_owned());
                println!("  FAILED {seconds:>6.1} s  {name}\n{error:#}");
            }
        }
    }

    /// Whether a case failed so far.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Prints the summary. `set_up` is what the cases stood on: its failure fails the target.
    #[must_use]
    pub fn finish(self, set_up: Result<()>) -> ExitCode {
        let total = self.passed + self.failed.len();
        println!(
            "{}: {} of {total} cases passed, {:.0} s",
            self.target,
            self.passed,
            self.start.elapsed().as_secs_f64()
        );
        if let Err(error) = &set_up {
            println!("{}: {error:#}", self.target);
        }
        if set_up.is_ok() && self.failed.is_empty() && total > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
