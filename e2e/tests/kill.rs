//! A broker of three is killed, again and again, under load.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use klamm_e2e::cases::Cases;
use klamm_e2e::client::{Admin as _, Program, franz_go};
use klamm_e2e::dev_cluster::DevCluster;
use klamm_e2e::load::Load;
use klamm_e2e::process::Signal;
use klamm_e2e::random::Random;
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Running;

const BROKERS: u16 = 3;
const KILLS: usize = 20;
const TOPIC: &str = "kill";
const PARTITIONS: usize = 12;
/// Groups that commit offsets for all partitions, again and again.
const GROUPS: &str = "20";
const COMMITS: &str = "10";
const MESSAGES_PER_SECOND: &str = "2000";
/// The load runs for so long before the first kill.
const WARM_UP: Duration = Duration::from_secs(3);
/// A kill comes at most so long after the cluster has recovered from the one before.
const PAUSE_MAX_MS: u64 = 1_500;
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let mut cases = Cases::new("kill");
    let outcome = run(&mut cases);
    cases.finish(outcome)
}

fn run(cases: &mut Cases) -> Result<()> {
    let cluster = DevCluster::start(BROKERS, &[])?;
    let client = franz_go(&cluster.bootstrap())?;
    let name = format!("{KILLS} times kill -9: nothing lost, repeated or out of order");
    cases.run(&name, || kill_under_load(&cluster, &client));
    cases.run(
        "coordinators die: others have all committed offsets",
        || kill_coordinators(&cluster, &client),
    );
    if cases.any_failed() {
        cluster.print_logs();
    }
    Ok(())
}

/// One kill, in microseconds since 1970.
struct Kill {
    broker: u16,
    at_us: u64,
    in_sync_us: u64,
}

fn kill_under_load(cluster: &DevCluster, client: &Program) -> Result<()> {
    let mut random = Random::from_environment();
    client.create_topic(TOPIC, PARTITIONS, BROKERS.into())?;
    wait_until_in_sync(client)?;
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["load", TOPIC, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    let start_us = warm_up(&mut load)?;

    let mut kills = Vec::new();
    for count in 1..=KILLS {
        sleep(Duration::from_millis(random.within(0..PAUSE_MAX_MS)));
        let broker = u16::try_from(random.within(0..BROKERS.into()))?;
        let kill = kill(cluster, client, broker).with_context(|| format!("kill {count}"))?;
        let seconds = (kill.in_sync_us - kill.at_us) as f64 / 1e6;
        println!("    kill {count}: broker {broker}, all in sync again after {seconds:.1} s");
        kills.push(kill);
    }
    let end_us = now_us();
    let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
    let load = Load::parse(&output.stdout)?;
    report(&load, &kills, start_us, end_us);
    load.verify(&client.tool(&["read", TOPIC]).run()?.stdout)
}

/// A third of the groups is coordinated by the broker that dies.
fn kill_coordinators(cluster: &DevCluster, client: &Program) -> Result<()> {
    let topic = "committed";
    client.create_topic(topic, PARTITIONS, BROKERS.into())?;
    wait_until_in_sync(client)?;
    client
        .tool(&["commit-offsets", topic, GROUPS, COMMITS])
        .time_limit(TIME_LIMIT)
        .run()?;
    let pid = cluster.broker_pid(1)?;
    cluster.kill(1)?;
    let partitions = PARTITIONS.to_string();
    client
        .tool(&["check-offsets", topic, GROUPS, &partitions, COMMITS])
        .time_limit(TIME_LIMIT)
        .run()?;
    cluster.wait_until_restarted(1, pid)
}

/// The time at which the load is known to flow.
fn warm_up(load: &mut Running) -> Result<u64> {
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > PARTITIONS
    })?;
    let start_us = now_us();
    sleep(WARM_UP);
    Ok(start_us)
}

/// Returns when the broker is back and in sync, so that never two are down at a time.
fn kill(cluster: &DevCluster, client: &Program, broker: u16) -> Result<Kill> {
    let pid = cluster.broker_pid(broker)?;
    let at_us = now_us();
    cluster.kill(broker)?;
    cluster.wait_until_restarted(broker, pid)?;
    wait_until_in_sync(client)?;
    let in_sync_us = now_us();
    Ok(Kill {
        broker,
        at_us,
        in_sync_us,
    })
}

fn wait_until_in_sync(client: &Program) -> Result<()> {
    client.tool(&["wait-isr"]).time_limit(TIME_LIMIT).run()?;
    Ok(())
}

/// For how long a partition acknowledged nothing, after each kill.
fn report(load: &Load, kills: &[Kill], start_us: u64, end_us: u64) {
    let ends = kills.iter().skip(1).map(|next| next.at_us).chain([end_us]);
    let mut stalls: Vec<_> = kills
        .iter()
        .zip(ends)
        .map(|(kill, end)| (load.longest_stall_us(kill.at_us, end), kill.broker))
        .collect();
    stalls.sort_unstable();
    let seconds = |us: u64| us as f64 / 1e6;
    let before = kills.first().map_or(end_us, |first| first.at_us);
    println!(
        "    {} messages acknowledged; longest time without an acknowledgement on a partition: \
         {:.2} s before the kills; after a kill min {:.2} s, median {:.2} s, max {:.2} s",
        load.acknowledged(),
        seconds(load.longest_stall_us(start_us, before)),
        seconds(stalls[0].0),
        seconds(stalls[stalls.len() / 2].0),
        seconds(stalls[stalls.len() - 1].0),
    );
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("the clock is past 1970");
    u64::try_from(since.as_micros()).expect("the clock is before the year 586,000")
}
