//! `cargo xtask demo`: from nothing to messages through a Kafka cluster on Kubernetes.

use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::image::{self, Binaries};
use crate::kind::cluster::{Cluster, DEFAULT_NAME, NODES_DEFAULT};
use crate::kind::node_image::Source;
use crate::operator::{self, Scope};
use crate::paths;
use crate::prerequisites::{self, Consent, Purpose};
use crate::process::{announce, output, run};

const MESSAGES: usize = 1000;
const READY_TIMEOUT: Duration = Duration::from_secs(300);
const POLL_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) fn run_demo(consent: Consent) -> Result<()> {
    let start = Instant::now();
    prerequisites::ensure(&[Purpose::Build, Purpose::Cluster, Purpose::Demo], consent)?;

    let cluster = Cluster::new(DEFAULT_NAME)?;
    cluster.up(NODES_DEFAULT, Source::Auto)?;
    let image = image::build(image::DEFAULT_TAG, &Binaries::build()?)?;
    cluster.load(&image.archive)?;
    operator::install(&cluster, &image, Scope::Namespace)?;

    announce("applying examples/cluster.yaml and examples/topic.yaml");
    for example in ["examples/cluster.yaml", "examples/topic.yaml"] {
        run(cluster
            .kubectl()?
            .arg("apply")
            .arg("--filename")
            .arg(paths::repository().join(example)))?;
    }
    wait_until_ready(&cluster, "kafkacluster/demo")?;
    wait_until_ready(&cluster, "topic/events")?;

    let bootstrap = bootstrap(&cluster)?;
    produce(&bootstrap)?;
    consume(&bootstrap)?;

    println!();
    run(cluster.kubectl()?.args(["get", "kafkaclusters,topics"]))?;
    print_next_steps(&cluster, &bootstrap, start.elapsed())
}

/// Polls rather than `kubectl wait`, to show what is being waited for.
fn wait_until_ready(cluster: &Cluster, object: &str) -> Result<()> {
    announce(format!("waiting for {object}"));
    let start = Instant::now();
    let condition =
        "{range .status.conditions[?(@.type=='Ready')]}{.status} {.reason}: {.message}{end}";
    let mut shown = String::new();
    loop {
        let state = output(
            cluster
                .kubectl()?
                .args(["get", object])
                .arg(format!("--output=jsonpath={condition}")),
        )?;
        if state != shown {
            println!("    {:>4} s  Ready={state}", start.elapsed().as_secs());
            shown.clone_from(&state);
        }
        if state.starts_with("True") {
            return Ok(());
        }
        if start.elapsed() > READY_TIMEOUT {
            operator::print_state(cluster)?;
            bail!(
                "{object} did not become ready in {} s",
                READY_TIMEOUT.as_secs()
            );
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The address for clients outside the cluster.
fn bootstrap(cluster: &Cluster) -> Result<String> {
    let path = "jsonpath={.status.listeners[?(@.name=='external')].bootstrap}";
    let address = output(
        cluster
            .kubectl()?
            .args(["get", "kafkacluster/demo"])
            .arg(format!("--output={path}")),
    )?;
    if address.is_empty() {
        bail!("KafkaCluster demo reports no address for its listener external");
    }
    Ok(address)
}

fn produce(bootstrap: &str) -> Result<()> {
    announce(format!(
        "producing {MESSAGES} messages to topic events at {bootstrap}"
    ));
    let mut kcat = Command::new("kcat")
        .args([
            "-P", "-b", bootstrap, "-t", "events", "-K", ":", "-X", "acks=all",
        ])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start kcat")?;
    let mut input = kcat.stdin.take().context("kcat has no input")?;
    for number in 0..MESSAGES {
        writeln!(input, "key-{number}:value-{number}")?;
    }
    drop(input);
    if !kcat.wait()?.success() {
        bail!("kcat could not produce to {bootstrap}");
    }
    Ok(())
}

/// The topic may hold the messages of earlier runs as well, so only their presence is checked.
fn consume(bootstrap: &str) -> Result<()> {
    announce("consuming them");
    let consumed = output(Command::new("kcat").args([
        "-C",
        "-b",
        bootstrap,
        "-t",
        "events",
        "-o",
        "beginning",
        "-e",
        "-q",
        "-f",
        "%k:%s\\n",
    ]))?;
    let lines: HashSet<_> = consumed.lines().collect();
    let missing = (0..MESSAGES)
        .filter(|number| !lines.contains(format!("key-{number}:value-{number}").as_str()))
        .count();
    if missing > 0 {
        bail!("{missing} of {MESSAGES} messages did not come back");
    }
    println!("    all {MESSAGES} came back");
    Ok(())
}

fn print_next_steps(cluster: &Cluster, bootstrap: &str, elapsed: Duration) -> Result<()> {
    println!(
        "
Klamm is running (after {} s). Next:

  export KUBECONFIG={}
  kubectl get kafkaclusters,topics
  echo hello | kcat -P -b {bootstrap} -t events
  kcat -C -b {bootstrap} -t events -e

The bootstrap address is {bootstrap}. To stop and delete everything:

  cargo xtask cluster down",
        elapsed.as_secs(),
        cluster.kubeconfig()?.display()
    );
    Ok(())
}
