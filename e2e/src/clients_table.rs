//! `docs/clients.md`: what each client's cases came to on Klamm, beside Apache Kafka.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::{Outcome, Report};

const HEAD: &str = "# Clients

What Kafka's clients see of three brokers on one machine, and what they see of Apache Kafka in the same cases. The cases are in
`e2e/src/suite` and `e2e/tests`, the programs that drive the clients in [e2e/clients](../e2e/clients/README.md), which pin the versions.
`cargo xtask clients --against kafka` runs them on both systems and writes this file.
";
const TABLE_HEAD: &str = "| client | version | cases | passed | skipped |";

/// What one system's clients reported.
#[derive(Debug)]
pub struct SystemReports {
    /// With its version
    pub title: String,
    pub reports: Vec<Report>,
}

/// One client's cases on one system.
#[derive(Debug, Default)]
struct Row<'a> {
    version: &'a str,
    outcomes: BTreeMap<&'a str, &'a Outcome>,
}

impl Row<'_> {
    fn passed(&self) -> usize {
        let outcomes = self.outcomes.values();
        outcomes.filter(|o| ***o == Outcome::Passed).count()
    }

    fn skipped(&self) -> usize {
        let outcomes = self.outcomes.values();
        outcomes
            .filter(|o| matches!(o, Outcome::Skipped(_)))
            .count()
    }
}

/// The file's text.
#[must_use]
pub fn render(klamm: &SystemReports, kafka: &SystemReports) -> String {
    let (rows, peers) = (rows(klamm), rows(kafka));
    let mut text = format!(
        "{HEAD}\nLast run: {} beside {}.\n\n",
        klamm.title, kafka.title
    );
    let _ = writeln!(text, "{TABLE_HEAD} {}: passed | skipped |", kafka.title);
    text.push_str("| --- | --- | --- | --- | --- | --- | --- |\n");
    let none = Row::default();
    for (client, row) in &rows {
        let peer = peers.get(client).unwrap_or(&none);
        let _ = writeln!(
            text,
            "| {client} | {} | {} | {} | {} | {} | {} |",
            row.version,
            row.outcomes.len(),
            row.passed(),
            row.skipped(),
            peer.passed(),
            peer.skipped(),
        );
    }
    explain(&mut text, "What failed", &rows, &peers, |outcome| {
        matches!(outcome, Outcome::Failed).then_some("")
    });
    explain(&mut text, "What was skipped, and why", &rows, &peers, |o| {
        let Outcome::Skipped(reason) = o else {
            return None;
        };
        Some(reason)
    });
    text
}

fn rows(system: &SystemReports) -> BTreeMap<&str, Row<'_>> {
    let mut rows: BTreeMap<&str, Row<'_>> = BTreeMap::new();
    for report in &system.reports {
        for case in &report.cases {
            let (client, name) = case.name.split_once(": ").unwrap_or(("", &case.name));
            let Some(version) = report.versions.get(client) else {
                continue;
            };
            let row = rows.entry(client).or_default();
            row.version = version;
            row.outcomes.insert(name, &case.outcome);
        }
    }
    rows
}

/// A list of the cases for whose outcome on one of the systems there is something to say.
fn explain<'a>(
    text: &mut String,
    title: &str,
    klamm: &BTreeMap<&'a str, Row<'a>>,
    kafka: &BTreeMap<&'a str, Row<'a>>,
    said: fn(&Outcome) -> Option<&str>,
) {
    let mut lines: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for (system, rows) in [("Klamm", klamm), ("Apache Kafka", kafka)] {
        for (client, row) in rows {
            for (case, outcome) in &row.outcomes {
                if let Some(said) = said(outcome) {
                    lines.entry((client, case, said)).or_default().push(system);
                }
            }
        }
    }
    let _ = writeln!(text, "\n## {title}\n");
    if lines.is_empty() {
        text.push_str("Nothing.\n");
    }
    for ((client, case, said), systems) in lines {
        let systems = systems.join(" and ");
        let said = if said.is_empty() {
            said.to_owned()
        } else {
            format!(": {said}")
        };
        let _ = writeln!(text, "- {client}, {case}, on {systems}{said}");
    }
}

#[cfg(test)]
mod tests {
    use super::{SystemReports, render};
    use crate::report::{CaseReport, Outcome, Report};

    fn reports(title: &str, outcomes: [Outcome; 3]) -> SystemReports {
        let mut report = Report::new("target");
        report
            .versions
            .insert("client".to_owned(), "1.2".to_owned());
        let cases = ["client: one", "client: two", "client: three"].into_iter();
        report.cases = cases
            .zip(outcomes)
            .map(|(name, outcome)| CaseReport {
                name: name.to_owned(),
                outcome,
            })
            .collect();
        SystemReports {
            title: title.to_owned(),
            reports: vec![report],
        }
    }

    #[test]
    fn what_failed_or_was_skipped_is_named_with_the_system() {
        let skipped = || Outcome::Skipped("it cannot".to_owned());
        let klamm = reports("Klamm 1", [Outcome::Passed, Outcome::Failed, skipped()]);
        let kafka = reports("Kafka 4", [Outcome::Passed, Outcome::Passed, skipped()]);
        let text = render(&klamm, &kafka);
        for line in [
            "| client | 1.2 | 3 | 1 | 1 | 2 | 1 |",
            "- client, two, on Klamm",
            "- client, three, on Klamm and Apache Kafka: it cannot",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in:\n{text}");
        }
    }
}
