//! Brokers on loopback for development: real processes with real replication, supervised.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::config::BrokerConfig;

/// Distance of the gRPC and the health port from the client port.
const RPC_PORT_OFFSET: u16 = 10_000;
const HTTP_PORT_OFFSET: u16 = 20_000;
const NODES_MAX: u16 = 9;
const LOG_DIRS_MAX: u16 = 9;
/// How long brokers may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of `klamm-broker dev`.
#[derive(Args, Clone)]
pub struct DevArgs {
    /// Number of brokers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX as i64))]
    nodes: u16,
    /// Client port of broker 0; the others follow
    #[arg(long, default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1024..=40_000))]
    port: u16,
    /// Data directory
    #[arg(long, default_value = "./klamm-data", value_name = "DIR")]
    data: PathBuf,
    /// Log directories of each broker: DIR/broker-N/data, data-1 and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=LOG_DIRS_MAX as i64))]
    log_dirs: u16,
    /// Start a broker that died again after this time
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = parse_duration)]
    restart_after: Duration,
    /// Set a configuration key on every broker; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit_ms) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1_000)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000)
    } else {
        return Err("give a time with a unit, such as 500ms, 2s or 1m".to_owned());
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is not a number"))?;
    Ok(Duration::from_millis(number.saturating_mul(unit_ms)))
}

/// Runs brokers until Ctrl-C or SIGTERM.
///
/// # Errors
/// When the data directory can't be prepared, the configuration is wrong or a broker never starts.
pub fn run(args: &DevArgs) -> anyhow::Result<()> {
    let layout = Layout::prepare(args)?;
    // A key that is wrong for one broker is wrong for all: say so instead of starting them again
    // and again.
    BrokerConfig::load(None, &layout.settings(args, 0))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(supervise(args, &layout))
}

/// What the brokers of one development cluster share.
struct Layout {
    data: PathBuf,
    cluster_id: String,
    token_file: PathBuf,
}

impl Layout {
    fn prepare(args: &DevArgs) -> anyhow::Result<Self> {
        fs::create_dir_all(&args.data)
            .with_context(|| format!("can't create {}", args.data.display()))?;
        let data = args.data.canonicalize()?;
        let nodes_file = data.join("nodes");
        let nodes = args.nodes.to_string();
        let earlier = read_or_create(&nodes_file, || nodes.clone())?;
        if earlier != nodes {
            bail!(
                "{} holds a cluster of {earlier} broker(s): run with --nodes {earlier}, \
                 choose another --data, or delete it",
                data.display()
            );
        }
        let cluster_id = read_or_create(&data.join("cluster-id"), random_id)?;
        let token_file = data.join("rpc-token");
        read_or_create(&token_file, || random_id() + &random_id())?;
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            data,
            cluster_id,
            token_file,
        })
    }

    fn broker_dir(&self, id: u16) -> PathBuf {
        self.data.join(format!("broker-{id}"))
    }

    fn log_file(&self, id: u16) -> PathBuf {
        self.broker_dir(id).join("broker.log")
    }

    fn log_dirs(&self, args: &DevArgs, id: u16) -> String {
        let names = (0..args.log_dirs).map(|number| match number {
            0 => "data".to_owned(),
            _ => format!("data-{number}"),
        });
        let dirs = names.map(|name| self.broker_dir(id).join(name).display().to_string());
        dirs.collect::<Vec<_>>().join(",")
    }

    fn settings(&self, args: &DevArgs, id: u16) -> Vec<String> {
        let client = args.port + id;
        let rpc = client + RPC_PORT_OFFSET;
        let voters: Vec<_> = (0..args.nodes)
            .map(|voter| format!("{voter}@127.0.0.1:{}", args.port + voter + RPC_PORT_OFFSET))
            .collect();
        let mut settings = vec![
            format!("node.id={id}"),
            format!("klamm.cluster.id={}", self.cluster_id),
            format!("log.dirs={}", self.log_dirs(args, id)),
            format!("listeners=PLAINTEXT://127.0.0.1:{client}"),
            format!("klamm.rpc.listener=127.0.0.1:{rpc}"),
            format!("klamm.rpc.token.file={}", self.token_file.display()),
            format!(
                "klamm.http.listener=127.0.0.1:{}",
                client + HTTP_PORT_OFFSET
            ),
            format!("controller.quorum.voters={}", voters.join(",")),
            format!("default.replication.factor={}", args.nodes.min(3)),
            format!(
                "min.insync.replicas={}",
                if args.nodes >= 3 { 2 } else { 1 }
            ),
            format!("offsets.topic.replication.factor={}", args.nodes.min(3)),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "controlled.shutdown.timeout.ms=5000".to_owned(),
        ];
        settings.extend(args.overrides.iter().cloned());
        settings
    }
}

fn random_id() -> String {
    Uuid::new_v4().simple().to_string()
}

fn read_or_create(path: &Path, text: impl FnOnce() -> String) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = text();
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("can't create {}", path.display()))?;
            file.write_all(text.as_bytes())?;
            Ok(text)
        }
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

async fn supervise(args: &DevArgs, layout: &Layout) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut brokers = JoinSet::new();
    let mut pids = vec![None; usize::from(args.nodes)];
    for id in 0..args.nodes {
        let child = spawn(args, layout, id)?;
        pids[usize::from(id)] = child.id();
        brokers.spawn(watch(child, id));
    }
    println!(
        "Ctrl-C stops {}.",
        if args.nodes == 1 { "it" } else { "them all" }
    );
    loop {
        tokio::select! {
            Some(ended) = brokers.join_next() => match ended.context("a watching task failed")? {
                Event::Died(id, status) => {
                    pids[usize::from(id)] = None;
                    println!(
                        "broker {id} ended ({status}); it starts again in {:?}; its log: {}",
                        args.restart_after, layout.log_file(id).display()
                    );
                    brokers.spawn(restart_later(id, args.restart_after));
                }
                Event::Restart(id) => {
                    let child = spawn(args, layout, id)?;
                    pids[usize::from(id)] = child.id();
                    brokers.spawn(watch(child, id));
                }
            },
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    println!("stopping");
    stop(pids, brokers).await;
    Ok(())
}

enum Event {
    Died(u16, String),
    Restart(u16),
}

async fn watch(mut child: Child, id: u16) -> Event {
    let status = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    Event::Died(id, status)
}

async fn restart_later(id: u16, after: Duration) -> Event {
    sleep(after).await;
    Event::Restart(id)
}

fn spawn(args: &DevArgs, layout: &Layout, id: u16) -> anyhow::Result<Child> {
    fs::create_dir_all(layout.broker_dir(id))?;
    let log_path = layout.log_file(id);
    let log = File::options().create(true).append(true).open(&log_path)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("run").arg("--with-parent");
    for setting in layout.settings(args, id) {
        command.arg("--set").arg(setting);
    }
    // A group of their own, so that Ctrl-C reaches this process only and brokers stop in order.
    let child = command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("can't start a broker process")?;
    println!(
        "broker {id}: pid {}, 127.0.0.1:{}, log {}",
        child.id().unwrap_or(0),
        args.port + id,
        log_path.display()
    );
    Ok(child)
}

async fn stop(pids: Vec<Option<u32>>, mut brokers: JoinSet<Event>) {
    let pids: Vec<Pid> = pids
        .into_iter()
        .flatten()
        .filter_map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw))
        .collect();
    let signal_all = |signal| {
        for pid in &pids {
            // One that has ended meanwhile needs no signal.
            let _ = kill_process(*pid, signal);
        }
    };
    signal_all(Signal::TERM);
    let mut left = pids.len();
    let all_ended = async {
        while left > 0 {
            match brokers.join_next().await {
                Some(Ok(Event::Died(..))) => left -= 1,
                Some(_) => {}
                None => break,
            }
        }
    };
    if timeout(STOP_TIMEOUT, all_ended).await.is_err() {
        println!("brokers did not stop within {STOP_TIMEOUT:?}; killing them");
        signal_all(Signal::KILL);
    }
}
