//! franz-go's own suite, as it lies in Go's module cache, against three brokers: `kgo [TESTS]`, where
//! TESTS is a regular expression as `go test -run` takes it.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::go_tool;
use klamm_e2e::report::Outcome;
use klamm_e2e::suite::run_target;
use klamm_e2e::tool::{Tool, last_lines};
use serde::Deserialize;

const CLIENT: &str = "franz-go kgo suite";
const MODULE: &str = "github.com/twmb/franz-go";
/// Each test that sends messages sends so many; the suite's own default is ten times that.
const RECORDS: &str = "50000";
const TIME_LIMIT: Duration = Duration::from_secs(3_600);
/// How much of what a failed test printed is shown.
const EXCERPT_LINES: usize = 40;

fn main() -> ExitCode {
    run_target("kgo", |cases, cluster| {
        let version = go_tool()
            .args(["list", "-m", "-f", "{{.Version}}", MODULE])
            .run()?;
        cases.client(
            CLIENT,
            version.stdout.trim().trim_start_matches('v').to_owned(),
        );
        run(cases, &cluster.bootstrap())
    })
}

fn run(cases: &mut Cases, bootstrap: &str) -> Result<()> {
    let mut suite = go_test().env("KGO_SEEDS", bootstrap).spawn()?;
    // It fails when one of its tests does, which the events tell.
    let outcome = suite.wait(TIME_LIMIT + Duration::from_secs(60));
    let mut outputs: HashMap<String, String> = HashMap::new();
    let mut ended = false;
    for line in suite.stdout().lines() {
        // What the compiler prints is no event.
        let Ok(event) = serde_json::from_str::<Event>(line) else {
            println!("{line}");
            continue;
        };
        let output = outputs.entry(event.test.clone()).or_default();
        output.push_str(&event.output);
        let Some(outcome) = event.outcome(output) else {
            continue;
        };
        if event.test.is_empty() {
            ended = true;
            continue;
        }
        let name = format!("{CLIENT}: {}", event.test);
        if outcome == Outcome::Failed {
            println!("  FAILED {name}\n{}", last_lines(output, EXCERPT_LINES));
        }
        cases.add(&name, outcome);
    }
    let package = outputs.remove("").unwrap_or_default();
    ensure!(!outputs.is_empty(), "no test ran:\n{package}");
    if ended {
        return Ok(());
    }
    outcome.map(drop).context("the suite did not end")
}

fn go_test() -> Tool {
    let tests = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    go_tool()
        .args(["test", "-json", "-count=1", "-run", &tests])
        .args(["-timeout", &format!("{}s", TIME_LIMIT.as_secs())])
        .args([format!("{MODULE}/pkg/kgo")])
        .env("KGO_TEST_RECORDS", RECORDS)
        .env("KGO_LOG_LEVEL", log_level())
}

/// That of the environment, for one who looks for a defect.
fn log_level() -> String {
    std::env::var("KGO_LOG_LEVEL").unwrap_or_else(|_| "none".to_owned())
}

/// A line of `go test -json`; the test is empty for the package as a whole.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    action: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    output: String,
}

impl Event {
    fn outcome(&self, output: &str) -> Option<Outcome> {
        match self.action.as_str() {
            "pass" => Some(Outcome::Passed),
            "fail" => Some(Outcome::Failed),
            "skip" => Some(Outcome::Skipped(reason(output))),
            _ => None,
        }
    }
}

/// The last thing that a test said of itself: `    file_test.go:12: REASON`.
fn reason(output: &str) -> String {
    let mut said = output.lines().filter(|line| line.contains("_test.go:"));
    let reason = said.next_back().and_then(|line| line.splitn(3, ':').nth(2));
    reason.map_or_else(String::new, |reason| reason.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Event, Outcome};

    #[test]
    fn a_skipped_test_says_why() {
        let line = r#"{"Action":"skip","Package":"kgo","Test":"TestA/b","Elapsed":0}"#;
        let event: Event = serde_json::from_str(line).expect("an event");
        let output = "=== RUN TestA/b\n    a_test.go:12: no: such thing\n--- SKIP: TestA/b\n";
        let skipped = Outcome::Skipped("no: such thing".to_owned());
        assert_eq!(event.outcome(output), Some(skipped));
    }
}
