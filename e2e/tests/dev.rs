//! `klamm-broker dev`: what it prints, what it starts again, what it stops, what it keeps.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{KafkaClient as _, Kcat};
use klamm_e2e::dev_cluster::{DevCluster, DevOptions};
use klamm_e2e::messages::{parse, verify};
use klamm_e2e::process::{Signal, is_alive, send_signal, wait_until};
use klamm_e2e::suite::{TIME_LIMIT, produce};
use tempfile::TempDir;

const MESSAGES: u64 = 5_000;
const RESTART_AFTER: Duration = Duration::from_millis(1_500);

fn main() -> ExitCode {
    let mut cases = Cases::new("dev");
    cases.run(
        "each broker's id, pid, address and log file are printed",
        printed,
    );
    cases.run(
        "a broker that was killed starts again after the time set",
        restarted,
    );
    cases.run("Ctrl-C stops all brokers, and their data is kept", || {
        kept(3)
    });
    cases.run("one broker: Ctrl-C stops it, and its data is kept", || {
        kept(1)
    });
    cases.run(
        "brokers do not outlive a supervisor that was killed",
        no_orphans,
    );
    cases.run(
        "another number of brokers on the same data is refused",
        other_nodes,
    );
    cases.run("an unknown key is refused at once", unknown_key);
    cases.finish(Ok(()))
}

fn printed() -> Result<()> {
    let cluster = DevCluster::start(3, &[])?;
    let text = cluster.stdout();
    for id in 0..3 {
        let (pid, log) = (cluster.broker_pid(id)?, cluster.log_file(id));
        let address = cluster.client_address(id);
        let line = format!("broker {id}: pid {pid}, {address}, log {}", log.display());
        ensure!(text.contains(&line), "no {line:?} in:\n{text}");
        ensure!(is_alive(pid), "no process {pid}");
        ensure!(log.metadata()?.len() > 0, "{} is empty", log.display());
    }
    Ok(())
}

fn restarted() -> Result<()> {
    let cluster = DevCluster::start_with(DevOptions {
        nodes: 3,
        arguments: vec![
            "--restart-after".to_owned(),
            format!("{}ms", RESTART_AFTER.as_millis()),
        ],
        ..DevOptions::default()
    })?;
    let others = [cluster.broker_pid(0)?, cluster.broker_pid(2)?];
    let pid = cluster.broker_pid(1)?;
    let start = Instant::now();
    cluster.kill(1)?;
    wait_until("the broker is started again", TIME_LIMIT, || {
        cluster.broker_pid(1).is_ok_and(|new| new != pid)
    })?;
    let paused = start.elapsed();
    ensure!(paused >= RESTART_AFTER, "it started again after {paused:?}");
    ensure!(
        paused < RESTART_AFTER + Duration::from_secs(5),
        "it took {paused:?}"
    );
    cluster.wait_until_restarted(1, pid)?;
    let now = [cluster.broker_pid(0)?, cluster.broker_pid(2)?];
    ensure!(now == others, "other brokers were started again as well");
    Ok(())
}

fn kept(nodes: u16) -> Result<()> {
    let directory = TempDir::new()?;
    let options = DevOptions {
        nodes,
        data: Some(directory.path().join("data")),
        ..DevOptions::default()
    };
    let cluster = DevCluster::start_with(options.clone())?;
    let kcat = Kcat::new(&cluster.bootstrap());
    kcat.ensure_topic("kept")?;
    produce(&kcat, "kept", 0..MESSAGES, "none")?;
    let start = Instant::now();
    // Fails if a broker is left.
    cluster.stop()?;
    println!(
        "    {nodes} stopped within {:.1} s",
        start.elapsed().as_secs_f64()
    );

    let cluster = DevCluster::start_with(options)?;
    let kcat = Kcat::new(&cluster.bootstrap());
    let output = kcat.reader("kept").run()?;
    verify(&[parse(&output.stdout)?], 0..MESSAGES)
}

fn no_orphans() -> Result<()> {
    let cluster = DevCluster::start(3, &[])?;
    let pids = (0..3).map(|id| cluster.broker_pid(id));
    let pids = pids.collect::<Result<Vec<_>>>()?;
    send_signal(cluster.supervisor_pid(), Signal::KILL)?;
    wait_until("every broker has ended", TIME_LIMIT, || {
        pids.iter().all(|&pid| !is_alive(pid))
    })
}

fn other_nodes() -> Result<()> {
    let directory = TempDir::new()?;
    let options = |nodes| DevOptions {
        nodes,
        data: Some(directory.path().to_owned()),
        ..DevOptions::default()
    };
    DevCluster::start_with(options(1))?.stop()?;
    let refused = DevCluster::start_with(options(3)).map(drop);
    let message = format!("{:#}", refused.err().context("it started")?);
    ensure!(message.contains("run with --nodes 1"), "{message}");
    Ok(())
}

fn unknown_key() -> Result<()> {
    let refused = DevCluster::start(1, &["no.such.key=1"]).map(drop);
    let message = format!("{:#}", refused.err().context("it started")?);
    ensure!(
        message.contains("unknown configuration key \"no.such.key\""),
        "{message}"
    );
    Ok(())
}
