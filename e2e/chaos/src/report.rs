//! The report of a run, in Markdown for people and in JSON for programs: what was done to the
//! cluster, for how long it stalled, and every anomaly with the history around it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::check::Anomaly;
use crate::check::memory;
use crate::check::progress::Fault;
use crate::clock::{now_us, seconds};
use crate::history::History;
use crate::nemesis::Nemesis;
use crate::round::{Operations, Outcome};

/// Anomalies of a round whose history is shown; all of them are counted.
const SHOWN_MAX: usize = 20;
/// Events that are shown of an anomaly's history.
const EVENTS_MAX: usize = 40;
/// Offsets around the place of an anomaly whose events are shown.
const OFFSETS_AROUND: i64 = 2;

#[derive(Serialize)]
pub(crate) struct Report {
    seed: u64,
    start_us: u64,
    end_us: u64,
    rounds: Vec<RoundReport>,
    /// That brokers need more and more memory
    memory_growth: Option<String>,
    /// Why the run ended early, if it did
    failure: Option<String>,
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Serialize)]
struct RoundReport {
    operations: Operations,
    memory_bytes_max: u64,
    /// Of each broker, at the end
    memory_bytes: Vec<u64>,
    faults: Vec<Fault>,
    anomaly_count: usize,
    anomalies: Vec<AnomalyReport>,
}

#[derive(Serialize)]
struct AnomalyReport {
    invariant: &'static str,
    at_us: u64,
    what: String,
    history: Vec<String>,
}

impl Report {
    /// Begins a report that is written into a directory.
    pub(crate) fn new(seed: u64, directory: &Path) -> Self {
        Self {
            seed,
            start_us: now_us(),
            end_us: 0,
            rounds: Vec::new(),
            memory_growth: None,
            failure: None,
            directory: directory.to_owned(),
        }
    }

    /// Adds a round; the history of one with anomalies is kept whole.
    ///
    /// # Errors
    /// When the history can't be written.
    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<()> {
        let Outcome {
            faults,
            operations,
            anomalies,
            history,
            memory_bytes_max,
            memory_bytes,
        } = outcome;
        if !anomalies.is_empty() {
            let name = format!("history-{}.txt", self.rounds.len());
            fs::write(self.directory.join(name), text(&history))?;
        }
        let shown = anomalies
            .iter()
            .take(SHOWN_MAX)
            .map(|anomaly| AnomalyReport {
                invariant: anomaly.invariant,
                at_us: anomaly.at_us,
                what: anomaly.what.clone(),
                history: around(anomaly, &history),
            });
        self.rounds.push(RoundReport {
            operations,
            memory_bytes_max,
            memory_bytes,
            faults,
            anomaly_count: anomalies.len(),
            anomalies: shown.collect(),
        });
        Ok(())
    }

    /// Says why the run ended early.
    pub(crate) fn fail(&mut self, error: &anyhow::Error) {
        self.failure = Some(format!("{error:#}"));
    }

    pub(crate) fn anomalies(&self) -> usize {
        let counts = self.rounds.iter().map(|round| round.anomaly_count);
        counts.sum::<usize>()
            + usize::from(self.memory_growth.is_some())
            + usize::from(self.failure.is_some())
    }

    /// Writes `report.md` and `report.json`.
    ///
    /// # Errors
    /// When they can't be written.
    pub(crate) fn write(&mut self, nemeses: &[&Nemesis]) -> Result<PathBuf> {
        self.end_us = now_us();
        self.memory_growth = memory::check(&self.memory()).map(|anomaly| anomaly.what);
        let json = serde_json::to_string_pretty(self)?;
        fs::write(self.directory.join("report.json"), json)?;
        let file = self.directory.join("report.md");
        fs::write(&file, self.markdown(nemeses)?)?;
        Ok(file)
    }

    /// What each broker had at the end of each round.
    fn memory(&self) -> Vec<Vec<u64>> {
        let rounds = self.rounds.iter();
        rounds.map(|round| round.memory_bytes.clone()).collect()
    }

    fn markdown(&self, nemeses: &[&Nemesis]) -> Result<String> {
        let mut text = String::new();
        let minutes = seconds(self.end_us - self.start_us) / 60.0;
        writeln!(text, "# Chaos, seed {}, {minutes:.1} minutes\n", self.seed)?;
        match &self.failure {
            Some(failure) => writeln!(text, "**The run ended early:** {failure}\n")?,
            None => writeln!(text, "{} anomalies.\n", self.anomalies())?,
        }
        writeln!(
            text,
            "| round | sent | acknowledged | unknown | read | commits | copied | aborted | most MiB | MiB at the end | anomalies |"
        )?;
        writeln!(
            text,
            "| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |"
        )?;
        for (number, round) in self.rounds.iter().enumerate() {
            let o = &round.operations;
            let at_rest = round.memory_bytes.iter().max().copied().unwrap_or(0);
            writeln!(
                text,
                "| {number} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                o.sent,
                o.acknowledged,
                o.unknown,
                o.consumed,
                o.commits,
                o.copied,
                o.aborted,
                round.memory_bytes_max >> 20,
                at_rest >> 20,
                round.anomaly_count
            )?;
        }
        if let Some((first, last)) = memory::growth(&self.memory()) {
            let (first, last) = (first >> 20, last >> 20);
            writeln!(
                text,
                "\nMemory of the largest broker after healing: {first} MiB in the first quarter of \
                 the rounds, {last} MiB in the last one."
            )?;
        }
        if let Some(growth) = &self.memory_growth {
            writeln!(text, "\n**{}:** {growth}", memory::NAME)?;
        }
        writeln!(text, "\n{}", self.nemesis_table(nemeses)?)?;
        for (number, round) in self.rounds.iter().enumerate() {
            self.write_round(&mut text, number, round)?;
        }
        Ok(text)
    }

    /// How often each nemesis came, and the longest time that a partition acknowledged nothing.
    ///
    /// # Errors
    /// When it can't be formatted.
    pub(crate) fn nemesis_table(&self, nemeses: &[&Nemesis]) -> Result<String> {
        let mut text = String::new();
        let mut stalls: BTreeMap<_, Vec<u64>> = BTreeMap::new();
        for nemesis in nemeses {
            stalls.entry(nemesis.name).or_default();
        }
        for fault in self.rounds.iter().flat_map(|round| &round.faults) {
            stalls
                .entry(fault.nemesis)
                .or_default()
                .push(fault.stall_us);
        }
        writeln!(
            text,
            "| nemesis | times | median stall, s | longest stall, s |"
        )?;
        writeln!(text, "| --- | --: | --: | --: |")?;
        for (name, mut stalls) in stalls {
            stalls.sort_unstable();
            let middle = stalls.get(stalls.len() / 2).copied().unwrap_or(0);
            let longest = stalls.last().copied().unwrap_or(0);
            let (middle, longest) = (seconds(middle), seconds(longest));
            writeln!(
                text,
                "| {name} | {} | {middle:.1} | {longest:.1} |",
                stalls.len()
            )?;
        }
        Ok(text)
    }

    fn write_round(&self, text: &mut String, number: usize, round: &RoundReport) -> Result<()> {
        writeln!(text, "\n## Round {number}\n")?;
        writeln!(text, "| from, s | until, s | stall, s | nemesis | what |")?;
        writeln!(text, "| --: | --: | --: | --- | --- |")?;
        for fault in &round.faults {
            writeln!(
                text,
                "| {:.1} | {:.1} | {:.1} | {} | {} |",
                self.since_start(fault.start_us),
                self.since_start(fault.stop_us),
                seconds(fault.stall_us),
                fault.nemesis,
                fault.what
            )?;
        }
        if round.anomaly_count > round.anomalies.len() {
            let (shown, all) = (round.anomalies.len(), round.anomaly_count);
            writeln!(text, "\n{shown} of {all} anomalies:")?;
        }
        for anomaly in &round.anomalies {
            writeln!(text, "\n### {}\n\n{}", anomaly.invariant, anomaly.what)?;
            if anomaly.at_us > 0 {
                let at = self.since_start(anomaly.at_us);
                writeln!(text, "\nAt {at:.1} s ({} us).", anomaly.at_us)?;
            }
            if !anomaly.history.is_empty() {
                writeln!(text, "\n```\n{}\n```", anomaly.history.join("\n"))?;
            }
        }
        Ok(())
    }

    fn since_start(&self, at_us: u64) -> f64 {
        seconds(at_us.saturating_sub(self.start_us))
    }
}

/// The events about the same messages, and about the same place.
fn around(anomaly: &Anomaly, history: &History) -> Vec<String> {
    let concerns = |event: &&crate::history::Event| {
        let message = event.what.message();
        if message.is_some_and(|message| anomaly.messages.contains(message)) {
            return true;
        }
        let (Some((partition, Some(offset))), Some((other, Some(at)))) =
            (&anomaly.place, event.what.place())
        else {
            return false;
        };
        partition == other && (offset - at).abs() <= OFFSETS_AROUND
    };
    let mut events: Vec<_> = history.events.iter().filter(concerns).collect();
    events.sort_by_key(|event| event.at_us);
    let lines = events.into_iter().take(EVENTS_MAX);
    lines
        .map(|event| format!("{:<10} {}", history.clients[event.client].name, event.line))
        .collect()
}

fn text(history: &History) -> String {
    let mut text = String::new();
    for event in &history.events {
        text.push_str(&history.clients[event.client].name);
        text.push(' ');
        text.push_str(&event.line);
        text.push('\n');
    }
    text
}
