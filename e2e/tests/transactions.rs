//! Transactions on three brokers, with Kafka's Java client and tools and with librdkafka.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{
    Admin as _, Java, KafkaClient as _, Kcat, Program, confluent_kafka,
    confluent_kafka_transactions, java_transactions,
};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::suite::TIME_LIMIT;

const PARTITIONS: usize = 3;
const ROUNDS: u64 = 20;
const COPIED: u64 = 500;

fn main() -> ExitCode {
    let mut cases = Cases::new("transactions");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(3, &["transaction.state.log.num.partitions=3"])?;
    let bootstrap = cluster.bootstrap();
    let suite = Suite {
        tools: Java::new(&bootstrap)?,
        admin: confluent_kafka(&bootstrap)?,
        kcat: Kcat::new(&bootstrap),
        java: java_transactions(&bootstrap)?,
        cluster,
    };
    let librdkafka = confluent_kafka_transactions(&bootstrap)?;
    let clients = [("java", &suite.java), ("librdkafka", &librdkafka)];
    for (name, client) in clients {
        cases.run(&format!("{name}: what is aborted is never read"), || {
            suite.rounds(client, name)
        });
        cases.run(&format!("{name}: messages are copied once"), || {
            suite.copy(client, name)
        });
        cases.run(&format!("{name}: a newer producer fences"), || {
            suite.fence(client, name)
        });
    }
    for ((reader, client), (writer, _)) in clients.into_iter().zip(clients.into_iter().rev()) {
        cases.run(&format!("{reader}: reads what {writer} wrote"), || {
            let wrote = [rounds_topic(writer), vec![copied(writer), fenced(writer)]].concat();
            Reading::check(&wrote, &client.tool(&Reading::args(&wrote)).run()?.stdout)
        });
    }
    cases.run("the coordinator is killed in a transaction", || {
        suite.kill_coordinator()
    });
    cases.run("a transaction that lasts too long is aborted", || {
        suite.time_out()
    });
    cases.run("an administrator aborts what no coordinator knows", || {
        suite.abort_by_tool()
    });
    if cases.any_failed() {
        suite.cluster.print_logs();
    }
    Ok(())
}

struct Suite {
    cluster: DevCluster,
    /// Kafka's own tools.
    tools: Java,
    /// Starts sooner than the tools.
    admin: Program,
    kcat: Kcat,
    java: Program,
}

impl Suite {
    fn rounds(&self, client: &Program, name: &str) -> Result<()> {
        let topic = format!("{name}-rounds");
        self.admin.create_topic(&topic, PARTITIONS, 3)?;
        let rounds = ROUNDS.to_string();
        run_and_read(
            client,
            &["rounds", &topic, &topic, &rounds],
            &rounds_topic(name),
        )?;
        Ok(())
    }

    fn copy(&self, client: &Program, name: &str) -> Result<()> {
        let (source, target) = (format!("{name}-source"), format!("{name}-target"));
        let group = format!("{name}-copy");
        for topic in [&source, &target] {
            self.admin.create_topic(topic, PARTITIONS, 3)?;
        }
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("messages");
        let lines: String = (0..COPIED).map(|n| format!("{n}\tvalue-{n}\n")).collect();
        std::fs::write(&file, lines)?;
        self.kcat.producer(&source, "none").stdin(&file).run()?;
        let count = COPIED.to_string();
        let copy = ["copy", &source, &target, &group, &count];
        run_and_read(client, &copy, &[copied(name)])?;
        let committed = self.admin.committed(&source, &group)?;
        ensure!(
            committed == COPIED.cast_signed(),
            "{committed} are committed"
        );
        Ok(())
    }

    fn fence(&self, client: &Program, name: &str) -> Result<()> {
        let topic = format!("{name}-fence");
        self.admin.create_topic(&topic, 1, 3)?;
        let printed = run_and_read(client, &["fence", &topic, &topic], &[fenced(name)])?;
        ensure!(printed.lines().any(|line| line == "fenced"), "{printed}");
        Ok(())
    }

    fn kill_coordinator(&self) -> Result<()> {
        let topic = "killed";
        self.admin.create_topic(topic, PARTITIONS, 3)?;
        let directory = tempfile::tempdir()?;
        let go_on = directory.path().join("go-on");
        let path = go_on.display().to_string();
        let expected = ["before", "after"].map(|value| (value.to_owned(), PARTITIONS));
        let reading = [Reading::committed(topic, BTreeMap::from(expected))];
        let args = [vec!["wait", topic, topic, &path], Reading::args(&reading)].join(&"then");
        let mut waiting = self.java.tool(&args).spawn()?;
        waiting.wait_for("the transaction is open", TIME_LIMIT, |waiting| {
            waiting.stdout().contains("open")
        })?;
        let described = self.transactions(&["describe", "--transactional-id", topic])?;
        let described = described.first().context("nothing described")?;
        ensure!(
            field(described, "TransactionState")? == "Ongoing",
            "{described:?}"
        );
        let coordinator: u16 = field(described, "CoordinatorId")?.parse()?;
        let pid = self.cluster.broker_pid(coordinator)?;
        self.cluster.kill(coordinator)?;
        std::fs::write(&go_on, "")?;
        let printed = waiting.wait(2 * TIME_LIMIT)?.stdout;
        self.cluster.wait_until_restarted(coordinator, pid)?;
        Reading::check(&reading, &printed)
    }

    fn time_out(&self) -> Result<()> {
        let topic = "timed-out";
        self.admin.create_topic(topic, 1, 3)?;
        self.java.tool(&["leave", topic, topic, "3000"]).run()?;
        let nothing = [Reading::committed(topic, BTreeMap::new())];
        run_and_read(&self.java, &["until", topic, "CompleteAbort"], &nothing)?;
        Ok(())
    }

    fn abort_by_tool(&self) -> Result<()> {
        let topic = "hanging";
        self.admin.create_topic(topic, 1, 3)?;
        self.java.tool(&["leave", topic, topic, "600000"]).run()?;
        let listed = self.transactions(&["list"])?;
        let row = listed
            .iter()
            .find(|row| field(row, "TransactionalId").is_ok_and(|id| id == topic));
        let row = row.with_context(|| format!("not listed: {listed:?}"))?;
        ensure!(field(row, "TransactionState")? == "Ongoing", "{row:?}");
        let producer_id = field(row, "ProducerId")?;
        let partition = ["--topic", topic, "--partition", "0"];
        let producers = self.transactions(&[&["describe-producers"][..], &partition].concat())?;
        let producer = producers
            .iter()
            .find(|row| field(row, "ProducerId").is_ok_and(|id| id == producer_id));
        let producer = producer.with_context(|| format!("not there: {producers:?}"))?;
        let start = field(producer, "CurrentTransactionStartOffset")?;
        let abort = [&["abort"][..], &partition, &["--start-offset", &start]].concat();
        self.transactions(&abort)?;
        let producers = self.transactions(&[&["describe-producers"][..], &partition].concat())?;
        let ended = producers.iter().all(|row| {
            field(row, "CurrentTransactionStartOffset").is_ok_and(|start| start == "None")
        });
        ensure!(ended, "{producers:?}");
        Ok(())
    }

    /// The rows that `kafka-transactions` prints, by the names of their columns.
    fn transactions(&self, args: &[&str]) -> Result<Vec<BTreeMap<String, String>>> {
        let tool = self.tools.tool("TransactionsCommand").args(args);
        let output = tool.run()?.stdout;
        let mut lines = output
            .lines()
            .map(|line| line.split('\t').map(|cell| cell.trim().to_owned()));
        let Some(names) = lines.next() else {
            return Ok(Vec::new());
        };
        let names: Vec<String> = names.collect();
        Ok(lines
            .map(|cells| names.iter().cloned().zip(cells).collect())
            .collect())
    }
}

/// What is to be read of a topic.
#[derive(Clone)]
struct Reading {
    topic: String,
    isolation: &'static str,
    /// How often each value.
    values: BTreeMap<String, usize>,
}

impl Reading {
    fn committed(topic: &str, values: BTreeMap<String, usize>) -> Self {
        Self {
            topic: topic.to_owned(),
            isolation: "read_committed",
            values,
        }
    }

    /// The commands that read.
    fn args(readings: &[Self]) -> Vec<&str> {
        let commands = readings
            .iter()
            .map(|reading| ["read", &reading.topic, reading.isolation]);
        commands.collect::<Vec<_>>().join(&"then")
    }

    /// Compares with what a program printed that read.
    fn check(readings: &[Self], printed: &str) -> Result<()> {
        for reading in readings {
            let mut values = BTreeMap::new();
            let prefix = format!("{}\t{}\t", reading.topic, reading.isolation);
            for value in printed
                .lines()
                .filter_map(|line| line.strip_prefix(&prefix))
            {
                *values.entry(value.to_owned()).or_default() += 1;
            }
            ensure!(values == reading.values, "{prefix}{values:?}");
        }
        Ok(())
    }
}

fn rounds_topic(name: &str) -> Vec<Reading> {
    let topic = format!("{name}-rounds");
    let each = |step| {
        let rounds = (0..ROUNDS).step_by(step);
        rounds.map(|n| (format!("round-{n}"), PARTITIONS)).collect()
    };
    vec![
        Reading::committed(&topic, each(2)),
        Reading {
            isolation: "read_uncommitted",
            ..Reading::committed(&topic, each(1))
        },
    ]
}

fn copied(name: &str) -> Reading {
    let values = (0..COPIED).map(|n| (format!("value-{n}"), 1));
    Reading::committed(&format!("{name}-target"), values.collect())
}

fn fenced(name: &str) -> Reading {
    let values = BTreeMap::from([("second".to_owned(), 1)]);
    Reading::committed(&format!("{name}-fence"), values)
}

/// Runs a command and then reads; returns what was printed.
fn run_and_read(client: &Program, command: &[&str], readings: &[Reading]) -> Result<String> {
    let args = [command.to_vec(), Reading::args(readings)].join(&"then");
    let printed = client.tool(&args).run()?.stdout;
    Reading::check(readings, &printed)?;
    Ok(printed)
}

fn field(row: &BTreeMap<String, String>, name: &str) -> Result<String> {
    row.get(name)
        .cloned()
        .with_context(|| format!("no {name} in {row:?}"))
}
