//! The cases of a test target that shares one cluster: run in order, named, counted.
//!
//! Targets that use it have `harness = false`, so that what they print is always seen. Arguments
//! without a leading dash select the cases whose names contain one of them. A case of a client has
//! the client's name and a colon before its own.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::report::{CaseReport, Outcome, Report};

/// The cases of one target.
#[derive(Debug)]
pub struct Cases {
    selected: Vec<String>,
    report: Report,
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
            selected: selected.collect(),
            report: Report::new(target),
            start: Instant::now(),
        }
    }

    /// Says which version of a client the cases with its name run.
    pub fn client(&mut self, name: &str, version: String) {
        self.report.versions.insert(name.to_owned(), version);
    }

    /// Runs a case if it is selected. A failed one does not keep the next ones from running.
    pub fn run(&mut self, name: &str, case: impl FnOnce() -> Result<()>) {
        if !self.is_selected(name) {
            return;
        }
        let start = Instant::now();
        let outcome = case();
        let seconds = start.elapsed().as_secs_f64();
        let outcome = match outcome {
            Ok(()) => {
                println!("  passed {seconds:>6.1} s  {name}");
                Outcome::Passed
            }
            Err(error) => {
                println!("  FAILED {seconds:>6.1} s  {name}\n{error:#}");
                Outcome::Failed
            }
        };
        self.add(name, outcome);
    }

    /// Leaves a case out, for a reason that is no defect of what is tested.
    pub fn skip(&mut self, name: &str, reason: &str) {
        if self.is_selected(name) {
            println!("  skipped          {name}: {reason}");
            self.add(name, Outcome::Skipped(reason.to_owned()));
        }
    }

    /// Adds a case that ran elsewhere.
    pub fn add(&mut self, name: &str, outcome: Outcome) {
        let name = name.to_owned();
        self.report.cases.push(CaseReport { name, outcome });
    }

    fn is_selected(&self, name: &str) -> bool {
        self.selected.is_empty() || self.selected.iter().any(|part| name.contains(part))
    }

    /// Whether a case failed so far.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.report.failed() > 0
    }

    /// Prints the summary. `set_up` is what the cases stood on: its failure fails the target.
    #[must_use]
    pub fn finish(self, set_up: Result<()>) -> ExitCode {
        let report = &self.report;
        let (passed, failed) = (report.passed(), report.failed());
        println!(
            "{}: {passed} passed, {failed} failed, {} skipped, {:.0} s",
            report.target,
            report.skipped(),
            self.start.elapsed().as_secs_f64()
        );
        let written = report.write().context("can't write the report");
        let outcome = set_up.and(written);
        if let Err(error) = &outcome {
            println!("{}: {error:#}", report.target);
        }
        if outcome.is_ok() && failed == 0 && passed > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}
