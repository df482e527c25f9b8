//! Kafka Streams with exactly_once_v2: words are counted while brokers are killed, and while
//! instances come, go and lose their state.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{
    Admin as _, Instance, KafkaClient as _, Kcat, Program, WordCount, franz_go,
};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::feed::{Feed, Rate};
use klamm_e2e::messages::{Consumed, parse};
use klamm_e2e::process::{Signal, send_signal, wait_until};
use klamm_e2e::suite::{self, LONG_CASES};
use tempfile::TempDir;

const NAME: &str = "words";
const PARTITIONS: usize = 3;
const REPLICAS: usize = 3;
const WINDOW: Duration = Duration::from_millis(500);
const WINDOW_LINES: u64 = 500;
const KINDS: u64 = 5;
/// Lines before something happens, and after it.
const LINES: u64 = 500;
const RATE: Rate = Rate {
    line,
    lines_per_tick: 8,
};
/// A transaction that a killed instance left is aborted after 10 s, and the instance is missed
/// after 6 s.
const COUNT_LIMIT: Duration = Duration::from_secs(120);
const KILLED: u16 = 1;
const KILLS: [u16; 6] = [0, 1, 2, 0, 1, 2];

fn main() -> ExitCode {
    suite::run_target("streams", run)
}

fn run(cases: &mut Cases, cluster: &mut Cluster) -> Result<()> {
    cases.client("streams", WordCount::version()?);
    let mut counting = Counting::prepare(cluster)?;
    cases.run(
        "streams: words are counted exactly once while a broker is killed",
        || counting.kill_brokers(cluster, &[KILLED]),
    );
    cases.run(
        "streams: an instance without state restores its share from changelogs",
        || counting.second_instance(),
    );
    if std::env::var_os(LONG_CASES).is_some() {
        cases.run("streams: an instance restarts with its state", || {
            counting.restart()
        });
        cases.run("streams: an instance is killed", || {
            counting.kill_instance()
        });
        cases.run("streams: brokers are killed in turn", || {
            counting.kill_brokers(cluster, &KILLS)
        });
    }
    cases.run("streams: a later instance restores everything", || {
        counting.restore_everything()
    });
    cases.run("streams: counts per window of event time", || {
        counting.check("windows", &windows(counting.lines))
    });
    cases.run("streams: counts of a join with a global table", || {
        counting.check("of-kinds", &kinds(counting.lines))
    });
    if cases.any_failed() {
        counting.print_instances();
    }
    Ok(())
}

/// The words of a line: each has another cycle.
fn words(number: u64) -> [u64; 3] {
    [number % 53, number * 7 % 31, number % 17]
}

fn word(word: u64) -> String {
    format!("word-{word}")
}

fn kind(word: u64) -> String {
    format!("kind-{}", word % KINDS)
}

fn line(number: u64) -> String {
    format!("{number}\t{}\n", words(number).map(word).join(" "))
}

/// How often the application counted each key in the end.
type Counts = BTreeMap<String, u64>;

fn counts(lines: u64, keys: impl Fn(u64, u64) -> String) -> Counts {
    let mut counts = Counts::new();
    for number in 0..lines {
        for word in words(number) {
            *counts.entry(keys(number, word)).or_default() += 1;
        }
    }
    counts
}

fn of_words(lines: u64) -> Counts {
    counts(lines, |_, it| word(it))
}

fn windows(lines: u64) -> Counts {
    counts(lines, |number, it| {
        format!("{}@{}", word(it), number / WINDOW_LINES)
    })
}

fn kinds(lines: u64) -> Counts {
    counts(lines, |_, it| kind(it))
}

/// The application, its topics, and what it was given.
struct Counting {
    kcat: Kcat,
    client: Program,
    application: WordCount,
    state: TempDir,
    /// By the directory of their state
    instances: BTreeMap<&'static str, Instance>,
    lines: u64,
}

impl Counting {
    fn prepare(cluster: &Cluster) -> Result<Self> {
        let bootstrap = cluster.bootstrap();
        let client = franz_go(&bootstrap)?;
        for topic in ["lines", "kinds", "counts", "windows", "of-kinds"] {
            client.create_topic(&topic_name(topic), PARTITIONS, REPLICAS)?;
        }
        let state = tempfile::Builder::new().prefix("klamm-e2e-").tempdir()?;
        let table: String = (0..53)
            .map(|it| format!("{}\t{}\n", word(it), kind(it)))
            .collect();
        let file = state.path().join("table");
        std::fs::write(&file, table)?;
        let producer = client.producer(&topic_name("kinds"), "none");
        producer.stdin(&file).run()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        // The first window begins there.
        let begin_ms = now.as_secs() * 1000;
        Ok(Self {
            kcat: Kcat::new(&bootstrap),
            application: WordCount::new(&bootstrap, NAME, begin_ms, WINDOW)?,
            client,
            state,
            instances: BTreeMap::new(),
            lines: 0,
        })
    }

    fn start(&mut self, name: &'static str) -> Result<&Instance> {
        let instance = self.application.start(&self.state.path().join(name))?;
        self.instances.insert(name, instance);
        self.instance(name)
    }

    fn instance(&self, name: &'static str) -> Result<&Instance> {
        let instance = self.instances.get(name);
        instance.with_context(|| format!("instance {name} does not run"))
    }

    fn stop(&mut self, name: &'static str) -> Result<()> {
        let instance = self.instances.remove(name);
        let instance = instance.with_context(|| format!("instance {name} does not run"))?;
        instance.stop()
    }

    /// Lines flow while it happens, and some more before and after; then all are counted, once.
    fn count_while(&mut self, happens: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let producer = self.client.producer(&topic_name("lines"), "none");
        self.lines = Feed::during(producer, RATE, self.lines, |feed| {
            feed.wait_for_more(LINES)?;
            happens(self)?;
            feed.wait_for_more(LINES)
        })?;
        self.check("counts", &of_words(self.lines))
    }

    fn kill_brokers(&mut self, cluster: &mut Cluster, brokers: &[u16]) -> Result<()> {
        if self.instances.is_empty() {
            self.start("first")?;
        }
        self.count_while(|_| {
            brokers
                .iter()
                .try_for_each(|broker| cluster.kill_and_restart(*broker))
        })
    }

    fn second_instance(&mut self) -> Result<()> {
        self.count_while(|counting| {
            let second = counting.start("second")?;
            // It runs without any share at first, until the other has given some up.
            wait_until("a store is restored", COUNT_LIMIT, || {
                second.restored("counts") > 0
            })?;
            println!("    {} records restored", second.restored("counts"));
            Ok(())
        })
    }

    fn restart(&mut self) -> Result<()> {
        self.count_while(|counting| {
            counting.stop("first")?;
            counting.start("first").map(drop)
        })
    }

    fn kill_instance(&mut self) -> Result<()> {
        self.count_while(|counting| {
            let killed = counting.instances.remove("first").context("not there")?;
            send_signal(killed.pid(), Signal::KILL)
        })
    }

    /// Nothing is left but the brokers' topics.
    fn restore_everything(&mut self) -> Result<()> {
        while let Some((_, instance)) = self.instances.pop_first() {
            instance.stop()?;
        }
        let expected = of_words(self.lines);
        self.start("third")?;
        let third = self.instances.get_mut("third").context("not there")?;
        let restored = third.restored("counts");
        ensure!(restored > 0, "nothing restored");
        println!("    {restored} records restored");
        let stored = third.store("counts")?;
        compare(&stored, &expected)?;
        self.count_while(|_| Ok(()))
    }

    /// Waits until the topic has as many counts as it should, and checks that each key was counted
    /// up to its number without a step left out or taken twice, as a reader of what is committed
    /// sees it.
    fn check(&self, topic: &str, expected: &Counts) -> Result<()> {
        let total: u64 = expected.values().sum();
        let mut read = Vec::new();
        let read_all = || {
            read = self.read(topic)?;
            anyhow::Ok(read.len() as u64 >= total)
        };
        wait_for(&format!("{topic} has {total} counts"), read_all)
            .with_context(|| format!("{topic} has {} counts", read.len()))?;
        verify(&read, expected).with_context(|| topic.to_owned())
    }

    fn read(&self, topic: &str) -> Result<Vec<Consumed>> {
        let reader = self.kcat.reader(&topic_name(topic));
        let reader = reader.args(["-X", "isolation.level=read_committed"]);
        parse(&reader.run()?.stdout)
    }

    fn print_instances(&self) {
        for (name, instance) in &self.instances {
            println!("--- the end of what instance {name} printed:");
            println!("{}", klamm_e2e::tool::last_lines(&instance.stderr(), 60));
        }
    }
}

fn topic_name(topic: &str) -> String {
    format!("{NAME}-{topic}")
}

/// Asks again while a broker that was killed comes back.
fn wait_for(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let mut last = Ok(());
    let outcome = wait_until(what, COUNT_LIMIT, || match done() {
        Ok(done) => done,
        Err(error) => {
            last = Err(error);
            false
        }
    });
    outcome.or_else(|error| last.and(Err(error)))
}

fn verify(read: &[Consumed], expected: &Counts) -> Result<()> {
    let mut seen = Counts::new();
    for message in read {
        let count: u64 = message.value.parse()?;
        let before = seen.insert(message.key.clone(), count).unwrap_or(0);
        ensure!(count == before + 1, "{message:?} after {before}");
    }
    compare(&seen, expected)
}

/// Names one of the keys that differ.
fn compare(found: &Counts, expected: &Counts) -> Result<()> {
    let mut keys = found.keys().chain(expected.keys());
    let wrong = keys.find(|key| found.get(*key) != expected.get(*key));
    if let Some(key) = wrong {
        let (found, expected) = (found.get(key), expected.get(key));
        bail!("{key}: {found:?} instead of {expected:?}");
    }
    Ok(())
}
