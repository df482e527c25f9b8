//! Kafka's tools against the cluster under test, and what they answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use klamm_e2e::client::{Java, Program, java_transactions};
use klamm_e2e::cluster::{Cluster, System};
use klamm_e2e::tool::{End, Output, Running, Tool};
use tempfile::TempDir;

/// Long enough for a machine with other things to do.
const TOOL_LIMIT: Duration = Duration::from_secs(120);

/// The tools. Arguments are given as one text, with blanks between.
pub(crate) struct Tools {
    java: Java,
    pub(crate) system: System,
    /// For the files that tools read
    directory: TempDir,
    data: PathBuf,
}

impl Tools {
    pub(crate) fn new(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            java: Java::new(&cluster.bootstrap())?,
            system: System::from_environment()?,
            directory: tempfile::tempdir()?,
            data: cluster.data_dir(0),
        })
    }

    pub(crate) const fn java(&self) -> &Java {
        &self.java
    }

    /// Where broker 0 keeps its logs.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// A tool that takes `--bootstrap-server` before its arguments.
    fn tool(&self, class: &str, args: &str) -> Tool {
        self.java.tool(class).args(args.split_whitespace())
    }

    /// One that takes no addresses, or has them elsewhere among its arguments.
    pub(crate) fn bare(&self, class: &str, args: &str) -> Tool {
        self.java.class(class).args(args.split_whitespace())
    }

    pub(crate) fn topics(&self, args: &str) -> Tool {
        self.tool("TopicCommand", args)
    }

    pub(crate) fn configs(&self, args: &str) -> Tool {
        self.java.configs().args(args.split_whitespace())
    }

    pub(crate) fn groups(&self, args: &str) -> Tool {
        self.tool("consumer.group.ConsumerGroupCommand", args)
    }

    pub(crate) fn consumer(&self, args: &str) -> Tool {
        self.tool("consumer.ConsoleConsumer", args)
    }

    /// The console producer, with these lines to send.
    pub(crate) fn producer(&self, args: &str, lines: &str) -> Result<Tool> {
        let file = self.file("lines", lines)?;
        Ok(self.tool("ConsoleProducer", args).stdin(&file))
    }

    pub(crate) fn offsets(&self, args: &str) -> Tool {
        self.tool("GetOffsetShell", args)
    }

    pub(crate) fn transactions(&self, args: &str) -> Tool {
        self.tool("TransactionsCommand", args)
    }

    pub(crate) fn reassign(&self, args: &str) -> Tool {
        self.tool("reassign.ReassignPartitionsCommand", args)
    }

    pub(crate) fn elect(&self, args: &str) -> Tool {
        self.tool("LeaderElectionCommand", args)
    }

    /// Any other tool with `--bootstrap-server`.
    pub(crate) fn other(&self, class: &str, args: &str) -> Tool {
        self.tool(class, args)
    }

    /// kafka-cluster, whose subcommand comes first.
    pub(crate) fn cluster(&self, command: &str, args: &str) -> Tool {
        self.bare("ClusterTool", command)
            .args(["--bootstrap-server", self.java.bootstrap()])
            .args(args.split_whitespace())
    }

    /// Messages without keys, to the topic's partitions as the producer likes.
    pub(crate) fn fill(&self, topic: &str, messages: u32, bytes: u32) -> Result<()> {
        let sent = self.bare(
            "ProducerPerformance",
            &format!(
                "--topic {topic} --num-records {messages} --record-size {bytes} --throughput -1 \
                 --producer-props acks=all bootstrap.servers={}",
                self.java.bootstrap()
            ),
        );
        ask(sent)?.prints(&[&format!("{messages} records sent")])
    }

    /// Messages with keys, to every partition of a topic that has two.
    pub(crate) fn fill_partitions(&self, topic: &str, messages: usize) -> Result<()> {
        let args = format!("--topic {topic} --max-messages {messages} --repeating-keys 10");
        let sent = ask(self.tool("VerifiableProducer", &args))?;
        sent.prints(&[&format!("\"sent\":{messages},\"acked\":{messages},")])
    }

    /// Kafka's transactional producer, as a program of this project.
    pub(crate) fn transactional(&self) -> Result<Program> {
        java_transactions(self.java.bootstrap())
    }

    /// A file for a tool to read.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let file = self.directory.path().join(name);
        fs::write(&file, text)?;
        Ok(file)
    }

    pub(crate) fn create(&self, topic: &str, args: &str) -> Result<()> {
        let created = ask(self.topics(&format!("--create --topic {topic} {args}")))?;
        created.prints(&[&format!("Created topic {topic}.")])
    }
}

/// What a tool printed, and how it ended.
pub(crate) struct Answer(End);

impl Answer {
    pub(crate) fn stdout(&self) -> &str {
        &self.0.output.stdout
    }

    /// The rows whose first field is this one, as their fields.
    pub(crate) fn rows(&self, first: &str) -> Vec<Vec<&str>> {
        let rows = self.stdout().lines().map(|line| line.split_whitespace());
        let rows = rows.map(Iterator::collect::<Vec<_>>);
        rows.filter(|row| row.first() == Some(&first)).collect()
    }

    /// Succeeded, with these texts.
    pub(crate) fn prints(&self, texts: &[&str]) -> Result<()> {
        ensure!(self.0.status.success(), "it failed: {}", self.description());
        self.has(texts)
    }

    /// Succeeded, without any of these texts.
    pub(crate) fn prints_none_of(&self, texts: &[&str]) -> Result<()> {
        self.prints(&[])?;
        for text in texts {
            let found = self.stdout().contains(text);
            ensure!(!found, "{text:?} in: {}", self.description());
        }
        Ok(())
    }

    /// Succeeded, and had nothing to say.
    pub(crate) fn prints_nothing(&self) -> Result<()> {
        self.prints(&[])?;
        let empty = self.stdout().trim().is_empty();
        ensure!(empty, "not silent: {}", self.description());
        Ok(())
    }

    /// Succeeded, with exactly these lines, in any order, and perhaps empty ones.
    pub(crate) fn prints_lines(&self, lines: &[&str]) -> Result<()> {
        self.prints(&[])?;
        let printed = self.stdout().lines();
        let mut printed: Vec<_> = printed.filter(|line| !line.is_empty()).collect();
        let mut expected = lines.to_vec();
        printed.sort_unstable();
        expected.sort_unstable();
        ensure!(printed == expected, "{}", self.description());
        Ok(())
    }

    /// Failed, with these texts.
    pub(crate) fn fails(&self, texts: &[&str]) -> Result<()> {
        ensure!(
            !self.0.status.success(),
            "no failure: {}",
            self.description()
        );
        self.has(texts)
    }

    /// Has these texts in what it printed, to whichever stream; some tools report failures and exit
    /// with 0.
    pub(crate) fn has(&self, texts: &[&str]) -> Result<()> {
        let Output { stdout, stderr } = &self.0.output;
        for text in texts {
            let found = stdout.contains(text) || stderr.contains(text);
            ensure!(found, "no {text:?} in: {}", self.description());
        }
        Ok(())
    }

    pub(crate) fn description(&self) -> String {
        let End {
            description,
            status,
            output,
        } = &self.0;
        let frame = |line: &&str| !line.trim_start().starts_with("at ");
        let stderr: Vec<_> = output.stderr.lines().filter(frame).collect();
        format!(
            "{description}\n{status}\n--- stdout:\n{}\n--- stderr:\n{}",
            output.stdout,
            stderr.join("\n")
        )
    }
}

/// Runs a tool to its end.
pub(crate) fn ask(tool: Tool) -> Result<Answer> {
    tool.time_limit(TOOL_LIMIT).end().map(Answer)
}

/// Runs tools at the same time, of which none depends on another: most of what they take is the start
/// of a JVM.
pub(crate) fn together<const N: usize>(tools: [Tool; N]) -> Result<[Answer; N]> {
    let mut running = Vec::with_capacity(N);
    for tool in tools {
        running.push(tool.spawn()?);
    }
    let ends = running.iter_mut().map(|tool| tool.end(TOOL_LIMIT));
    let answers = ends
        .map(|end| end.map(Answer))
        .collect::<Result<Vec<_>>>()?;
    let Ok(answers) = answers.try_into() else {
        bail!("as many answers as tools");
    };
    Ok(answers)
}

/// Waits until a tool that goes on has printed a text.
pub(crate) fn wait_for_text(tool: &mut Running, text: &str) -> Result<()> {
    let what = format!("{text:?} is printed");
    tool.wait_for(&what, TOOL_LIMIT, |tool| tool.stdout().contains(text))
}

/// The first file of a directory with this extension.
pub(crate) fn first_file(directory: &Path, extension: &str) -> Result<PathBuf> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        files.push(entry?.path());
    }
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    let file = files.into_iter().next();
    file.with_context(|| format!("no .{extension} in {}", directory.display()))
}
