//! Three brokers with TLS towards clients and mutual TLS towards each other.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::certificates::Authority;
use klamm_e2e::client::{Java, Kcat, Klamm, Program, franz_go};
use klamm_e2e::dev_cluster::{DevCluster, metric};
use klamm_e2e::load::Load;
use klamm_e2e::messages::{parse, verify, write};
use klamm_e2e::process::{Signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Tool;
use tempfile::TempDir;

const BROKERS: u16 = 3;
const MESSAGES: u64 = 2_000;
/// In the certificates for gRPC.
const CLUSTER_NAME: &str = "e2e.klamm";
const LOAD_TOPIC: &str = "tls-load";
const LOAD_PARTITIONS: usize = 6;
const MESSAGES_PER_SECOND: &str = "1000";
/// Where the Go program finds its certificates.
const CLIENT_DIRECTORY: &str = "KLAMM_E2E_TLS";

fn main() -> ExitCode {
    let mut cases = Cases::new("tls");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let files = Files::new()?;
    files.issue(&files.old, 2040, &[&files.old])?;
    let both = [&files.old, &files.new];
    files
        .clients
        .write(&files.dir("client"), "client", 2040, &both)?;
    let stranger = Authority::new("clients")?;
    stranger.write(&files.dir("stranger"), "client", 2040, &both)?;
    let overrides = [
        "listener.security.protocol.map=PLAINTEXT:SSL".to_owned(),
        format!("ssl.keystore.location={}", files.text("listener")),
        format!("ssl.truststore.location={}", files.text("listener")),
        "ssl.client.auth=required".to_owned(),
        format!("klamm.rpc.tls.dir={}", files.text("rpc")),
        format!("klamm.rpc.tls.name={CLUSTER_NAME}"),
        "default.replication.factor=3".to_owned(),
    ];
    let overrides: Vec<_> = overrides.iter().map(String::as_str).collect();
    let cluster = DevCluster::start(BROKERS, &overrides)?;
    cases.run("tls: kcat, Java and klamm exchange messages", || {
        clients(&cluster, &files)
    });
    cases.run(
        "tls: who shows no certificate, or another's, is refused",
        || refusals(&cluster, &files),
    );
    cases.run(
        "tls: certificates and authority are replaced and a broker killed under load",
        || rotation(&cluster, &files),
    );
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// Where the brokers and their clients find certificates.
struct Files {
    dir: TempDir,
    old: Authority,
    new: Authority,
    /// Issues the certificates of clients
    clients: Authority,
}

impl Files {
    fn new() -> Result<Self> {
        Ok(Self {
            dir: tempfile::tempdir()?,
            old: Authority::new("old")?,
            new: Authority::new("new")?,
            clients: Authority::new("clients")?,
        })
    }

    fn dir(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.dir(name).display().to_string()
    }

    /// New certificates for the brokers.
    fn issue(&self, authority: &Authority, year: i32, trusted: &[&Authority]) -> Result<()> {
        authority.write(&self.dir("listener"), "broker", year, &[&self.clients])?;
        authority.write(&self.dir("rpc"), CLUSTER_NAME, year, trusted)
    }
}

/// kcat with the certificate in a directory.
fn kcat(cluster: &DevCluster, files: &Files, identity: Option<&str>, args: &[&str]) -> Tool {
    let authorities = format!("ssl.ca.location={}", files.text("client/ca.crt"));
    let tool = Kcat::new(&cluster.bootstrap()).tool(args);
    let tool = tool.args(["-X", "security.protocol=ssl", "-X", &authorities]);
    let Some(identity) = identity else {
        return tool;
    };
    ["certificate", "key"].iter().fold(tool, |tool, what| {
        let file = files.text(&format!(
            "{identity}/tls.{}",
            &what.replace("certificate", "crt")
        ));
        tool.args(["-X", &format!("ssl.{what}.location={file}")])
    })
}

fn klamm(
    cluster: &DevCluster,
    files: &Files,
    identity: Option<&str>,
    args: &[&str],
) -> Result<Tool> {
    let tool = Klamm::new(&cluster.bootstrap())?.tool(args);
    let tool = tool.args(["--tls-ca", &files.text("client/ca.crt")]);
    Ok(match identity {
        None => tool,
        Some(identity) => tool
            .args(["--tls-cert", &files.text(&format!("{identity}/tls.crt"))])
            .args(["--tls-key", &files.text(&format!("{identity}/tls.key"))]),
    })
}

fn franz(cluster: &DevCluster) -> Result<Program> {
    franz_go(&cluster.bootstrap())
}

fn clients(cluster: &DevCluster, files: &Files) -> Result<()> {
    let topic = "tls-clients";
    let config = files.dir("java.properties");
    let properties = format!(
        "security.protocol=SSL\nssl.keystore.type=PEM\nssl.keystore.location={}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n",
        files.text("client/keystore.pem"),
        files.text("client/ca.crt"),
    );
    std::fs::write(&config, properties)?;
    let java = Java::new(&cluster.bootstrap())?;
    java.tool("TopicCommand")
        .args(["--create", "--topic", topic, "--partitions", "6"])
        .args([Path::new("--command-config"), &config])
        .run()?;
    let messages = files.dir("messages");
    write(&messages, 0..MESSAGES)?;
    let murmur2 = "partitioner=murmur2_random";
    let produce = [
        "-P", "-t", topic, "-K", "\t", "-X", "acks=all", "-X", murmur2,
    ];
    kcat(cluster, files, Some("client"), &produce)
        .stdin(&messages)
        .run()?;
    write(&messages, MESSAGES..2 * MESSAGES)?;
    let produce = ["produce", topic, "-k", "\t"];
    klamm(cluster, files, Some("client"), &produce)?
        .stdin(&messages)
        .run()?;
    let count = (2 * MESSAGES).to_string();
    let consume = [
        "consume",
        topic,
        "-s",
        "earliest",
        "--offsets",
        "-k",
        "\t",
        "-n",
        &count,
    ];
    let consumed = klamm(cluster, files, Some("client"), &consume)?.run()?;
    verify(&[parse(&consumed.stdout)?], 0..2 * MESSAGES)?;
    let consumed = java
        .tool("consumer.ConsoleConsumer")
        .args([
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &count,
        ])
        .args([Path::new("--consumer.config"), &config])
        .args([
            "--property",
            "print.partition=true",
            "--property",
            "print.offset=true",
        ])
        .args(["--property", "print.key=true"])
        .run()?;
    verify(&[parse(&consumed.stdout)?], 0..2 * MESSAGES)
}

fn refusals(cluster: &DevCluster, files: &Files) -> Result<()> {
    for identity in [None, Some("stranger")] {
        let list = kcat(cluster, files, identity, &["-L", "-m", "1"]);
        ensure!(list.run().is_err(), "kcat with {identity:?}");
        let list = klamm(cluster, files, identity, &["cluster"])?;
        ensure!(list.run().is_err(), "klamm with {identity:?}");
    }
    let plaintext = Klamm::new(&cluster.bootstrap())?.tool(&["cluster"]);
    ensure!(plaintext.run().is_err(), "klamm without TLS");
    let seen = |name: &str| -> f64 {
        let brokers = (0..BROKERS).map(|id| metric(cluster.http_address(id), name));
        brokers.filter_map(Result::ok).sum()
    };
    for name in [
        "klamm_client_tls_handshakes_failed_total",
        "klamm_client_connections_wrong_protocol_total",
    ] {
        ensure!(seen(name) > 0.0, "{name}");
    }
    Ok(())
}

/// The authority is replaced as it has to be: trusted besides the old one, then in use, then alone.
fn rotation(cluster: &DevCluster, files: &Files) -> Result<()> {
    let client = franz(cluster)?;
    let secured = |tool: Tool| tool.env(CLIENT_DIRECTORY, files.dir("client"));
    let topic = [LOAD_TOPIC, &LOAD_PARTITIONS.to_string(), "3"];
    secured(client.tool(&["create-topic"]).args(topic)).run()?;
    let load = client
        .tool(&["load"])
        .args([topic[0], topic[1], MESSAGES_PER_SECOND]);
    let mut load = secured(load).spawn()?;
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > LOAD_PARTITIONS
    })?;
    let (old, new) = (&files.old, &files.new);
    files.issue(old, 2041, &[old, new])?;
    wait_until_taken(cluster, 2041)?;
    files.issue(new, 2042, &[old, new])?;
    wait_until_taken(cluster, 2042)?;
    std::fs::write(files.dir("listener/tls.crt"), "no certificate")?;
    let rejected = "klamm_certificate_rejected{listener=\"PLAINTEXT\"}";
    wait_until_told(cluster, rejected, 1.0)?;
    files.issue(new, 2043, &[new])?;
    wait_until_taken(cluster, 2043)?;
    wait_until_told(cluster, rejected, 0.0)?;

    let pid = cluster.broker_pid(0)?;
    cluster.kill(0)?;
    cluster.wait_until_restarted(0, pid)?;
    secured(client.tool(&["wait-isr"]))
        .time_limit(TIME_LIMIT)
        .run()?;
    let output = load.stop(Signal::TERM, Duration::from_secs(120))?;
    let load = Load::parse(&output.stdout)?;
    println!("    {} messages acknowledged", load.acknowledged());
    load.verify(&secured(client.tool(&["read", LOAD_TOPIC])).run()?.stdout)
}

/// Waits until all brokers show certificates that expire at the start of `year`.
fn wait_until_taken(cluster: &DevCluster, year: i32) -> Result<()> {
    let expiry = f64::from(year - 1970) * 365.25 * 86_400.0;
    for listener in ["PLAINTEXT", "rpc"] {
        let name = format!("klamm_certificate_expiry_timestamp_seconds{{listener=\"{listener}\"}}");
        let what = format!("the certificates of {year} are in use: {listener}");
        wait_until(&what, TIME_LIMIT, || {
            (0..BROKERS).all(|id| {
                let told = metric(cluster.http_address(id), &name);
                told.is_ok_and(|told| (told - expiry).abs() < 3.0 * 86_400.0)
            })
        })?;
    }
    Ok(())
}

fn wait_until_told(cluster: &DevCluster, name: &str, value: f64) -> Result<()> {
    wait_until(&format!("{name} is {value}"), TIME_LIMIT, || {
        (0..BROKERS)
            .all(|id| metric(cluster.http_address(id), name).is_ok_and(|told| told == value))
    })
}
