//! The clients of a round: producers, members of one group, copiers with a watcher of their copies,
//! and the readers at the end, each a process of `e2e/clients/python/history.py` or
//! `e2e/clients/java/History.java`, whose lines become the round's history.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use klamm_e2e::client::{confluent_kafka_history, java_history};
use klamm_e2e::process::{Signal, send_signal};
use parking_lot::Mutex;

use crate::check::not_copied;
use crate::cluster::Cluster;
use crate::history::{History, Partition, Role, What};
use crate::network::Host;

/// The producers, and the members of the group, which clients of both languages share.
const LANGUAGES: [Language; 3] = [Language::Python, Language::Python, Language::Java];
/// They share the partitions of one topic, each with a transactional id of its own.
const COPIERS: usize = 2;
/// Messages that each producer sends in a second.
const MESSAGES_PER_SECOND: u32 = 150;
/// The last acknowledgements and the last commits may take so long.
const STOP_LIMIT: Duration = Duration::from_secs(120);
const READ_LIMIT: Duration = Duration::from_secs(90);
/// What a client that does not end takes to print what it does.
const DUMP_PAUSE: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A topic of the workload.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: u16,
    pub(crate) config: &'static [(&'static str, &'static str)],
}

impl Topic {
    fn argument(&self) -> String {
        format!("{}:{}", self.name, self.partitions)
    }
}

/// What the clients did so far, and the last acknowledgement of each partition.
#[derive(Default)]
struct Recorder {
    history: History,
    acknowledged_us: HashMap<Partition, u64>,
    errors: Vec<String>,
}

/// What a client is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    /// confluent-kafka, which is librdkafka
    Python,
    /// Kafka's own client
    Java,
}

struct Client {
    process: Child,
    reader: Option<JoinHandle<()>>,
    name: String,
    role: Role,
}

/// Clients at work.
pub(crate) struct Workload {
    topics: Vec<Topic>,
    /// What the first of the topics is copied to
    copies: Topic,
    recorder: Arc<Mutex<Recorder>>,
    clients: Vec<Client>,
    /// Names of those that did not end when they were asked to
    stuck: Vec<String>,
    logs: PathBuf,
}

/// Fetches and builds the clients, which takes a network the first time.
///
/// # Errors
/// When one of them can't be built.
pub(crate) fn prepare_clients() -> Result<()> {
    let bootstrap = Cluster::bootstrap();
    confluent_kafka_history(&bootstrap)?;
    java_history(&bootstrap)?;
    Ok(())
}

impl Workload {
    /// Starts producers and consumers of the topics, of which the first one is copied to `copies`;
    /// what goes wrong with them is in `logs`.
    ///
    /// # Errors
    /// When they can't be started.
    pub(crate) fn start(
        topics: &[Topic],
        copies: &Topic,
        round: usize,
        logs: &Path,
    ) -> Result<Self> {
        let mut workload = Self {
            topics: topics.to_vec(),
            copies: copies.clone(),
            recorder: Arc::default(),
            clients: Vec::new(),
            stuck: Vec::new(),
            logs: logs.to_owned(),
        };
        let names: Vec<_> = topics.iter().map(|topic| topic.name.clone()).collect();
        for (number, language) in LANGUAGES.into_iter().enumerate() {
            let mut arguments = vec!["member".to_owned(), format!("group-{round}")];
            arguments.extend(names.iter().cloned());
            let name = format!("member-{number}");
            workload.add(&name, Role::Member, language, &arguments)?;
        }
        for (number, language) in LANGUAGES.into_iter().enumerate() {
            let name = format!("p{number}");
            let rate = MESSAGES_PER_SECOND.to_string();
            let mut arguments = vec!["produce".to_owned(), name, rate];
            arguments.extend(topics.iter().map(Topic::argument));
            let name = format!("producer-{number}");
            workload.add(&name, Role::Producer, language, &arguments)?;
        }
        workload.start_copying(round)?;
        Ok(workload)
    }

    fn start_copying(&mut self, round: usize) -> Result<()> {
        let source = self.topics.first().context("no topic to copy")?;
        let arguments = [
            "copy".to_owned(),
            source.name.clone(),
            self.copies.name.clone(),
            format!("copy-{round}"),
        ];
        for number in 0..COPIERS {
            let id = format!("copier-{round}-{number}");
            let arguments = [arguments.as_slice(), &[id]].concat();
            let name = format!("copier-{number}");
            self.add(&name, Role::Copier, Language::Java, &arguments)?;
        }
        let arguments = ["watch".to_owned(), self.copies.argument()];
        self.add("watcher", Role::Watcher, Language::Python, &arguments)
    }

    fn add(
        &mut self,
        name: &str,
        role: Role,
        language: Language,
        arguments: &[String],
    ) -> Result<()> {
        let bootstrap = Cluster::bootstrap();
        let program = match language {
            Language::Python => confluent_kafka_history(&bootstrap)?,
            Language::Java => java_history(&bootstrap)?,
        };
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.logs.join(format!("{name}.log")))?;
        let mut process = Command::new("ip")
            .args(["netns", "exec", &Host::Clients.namespace()])
            .args(program.command_line(arguments))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("can't start a client")?;
        let lines = BufReader::new(process.stdout.take().context("stdout is not a pipe")?);
        let client = self.recorder.lock().history.add_client(name, role);
        let recorder = Arc::clone(&self.recorder);
        let reader = thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                recorder.lock().add(client, &line);
            }
        });
        self.clients.push(Client {
            process,
            reader: Some(reader),
            name: name.to_owned(),
            role,
        });
        Ok(())
    }

    /// Whether every partition has acknowledged something since then.
    pub(crate) fn has_progressed_since(&self, at_us: u64) -> bool {
        let recorder = self.recorder.lock();
        let partitions = self
            .topics
            .iter()
            .map(|topic| usize::from(topic.partitions));
        let times = recorder.acknowledged_us.values();
        times.filter(|time| **time >= at_us).count() == partitions.sum::<usize>()
    }

    /// Ends the producers when all that they sent is answered, reads that, lets the group get and the
    /// copiers copy what they have not got yet, reads the copies, and returns the history, and the names
    /// of clients that did not end when they were asked to.
    ///
    /// # Errors
    /// When a client failed, or printed what is no event.
    pub(crate) fn finish(mut self) -> Result<(History, Vec<String>)> {
        self.stop(Role::Producer)?;
        let sent: Vec<_> = self.topics.iter().map(Topic::argument).collect();
        self.read("reader", Role::Reader, &sent)?;
        // What the group does not get in time is found as unseen, and what is not copied as that.
        let start = Instant::now();
        while !(self.group_has_all() && self.is_copied()) && start.elapsed() < READ_LIMIT {
            thread::sleep(POLL_INTERVAL);
        }
        for role in [Role::Member, Role::Copier, Role::Watcher] {
            self.stop(role)?;
        }
        let copies = self.copies.argument();
        self.read("copy-reader", Role::CopyReader, &[copies])?;
        let mut recorder = self.recorder.lock();
        if let Some(error) = recorder.errors.first() {
            bail!(
                "{} lines are not understood: {error}",
                recorder.errors.len()
            );
        }
        Ok((
            std::mem::take(&mut recorder.history),
            std::mem::take(&mut self.stuck),
        ))
    }

    fn read(&mut self, name: &str, role: Role, topics: &[String]) -> Result<()> {
        let arguments = [&["read".to_owned()], topics].concat();
        self.add(name, role, Language::Python, &arguments)?;
        self.wait(role, READ_LIMIT)
    }

    fn stop(&mut self, role: Role) -> Result<()> {
        for client in self.clients.iter().filter(|client| client.role == role) {
            send_signal(client.process.id(), Signal::TERM)?;
        }
        self.wait(role, STOP_LIMIT)
    }

    fn wait(&mut self, role: Role, limit: Duration) -> Result<()> {
        let start = Instant::now();
        for client in self.clients.iter_mut().filter(|client| client.role == role) {
            let status = loop {
                if let Some(status) = client.process.try_wait()? {
                    break Some(status);
                }
                if start.elapsed() > limit {
                    // What its threads do goes to its log.
                    send_signal(client.process.id(), Signal::QUIT)?;
                    thread::sleep(DUMP_PAUSE);
                    client.process.kill()?;
                    client.process.wait()?;
                    break None;
                }
                thread::sleep(POLL_INTERVAL);
            };
            if let Some(reader) = client.reader.take() {
                // It ends with the pipe, and does not panic.
                let _ = reader.join();
            }
            match status {
                Some(status) if status.success() => {}
                Some(status) => bail!("{} failed: {status}; see its log", client.name),
                None => self.stuck.push(client.name.clone()),
            }
        }
        Ok(())
    }

    fn is_copied(&self) -> bool {
        not_copied::missing(&self.recorder.lock().history).is_empty()
    }

    /// Whether the group has got, of every partition, the last message that the reader found.
    fn group_has_all(&self) -> bool {
        let recorder = self.recorder.lock();
        let history = &recorder.history;
        let mut ends: HashMap<_, _> = history
            .of_role(Role::Reader)
            .filter_map(|event| match &event.what {
                What::Extent(partition, end) if *end > 0 => Some((partition, *end)),
                _ => None,
            })
            .collect();
        for event in history.of_role(Role::Member) {
            if let What::Read(partition, offset, _) = &event.what
                && ends.get(partition) == Some(&(offset + 1))
            {
                ends.remove(partition);
            }
        }
        ends.is_empty()
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for client in &mut self.clients {
            // It may have ended.
            let _ = client.process.kill();
            let _ = client.process.wait();
        }
    }
}

impl Recorder {
    fn add(&mut self, client: usize, line: &str) {
        if let Err(error) = self.history.add_line(client, line) {
            self.errors.push(format!("{error:#}"));
            return;
        }
        if let Some(event) = self.history.events.last()
            && let What::Acknowledged(partition, ..) | What::AcknowledgedBefore(partition, _) =
                &event.what
        {
            self.acknowledged_us.insert(partition.clone(), event.at_us);
        }
    }
}
