//! How long the partitions of a topic make no progress when a broker dies or is paused, under the
//! same load on different systems.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::client::{Admin as _, PartitionState, Program, franz_go};
use crate::load::Load;
use crate::process::{Signal, send_signal, wait_until};
use crate::suite::TIME_LIMIT;
use crate::tool::Running;

/// Brokers of each system.
pub const BROKERS: u16 = 3;
const PARTITIONS: usize = 12;
const MESSAGES_PER_SECOND: &str = "600";
const WARM_UP: Duration = Duration::from_secs(5);
/// A broker that failed comes back so long after its partitions are led elsewhere.
const BACK_AFTER: Duration = Duration::from_secs(3);
const SETTLE_LIMIT: Duration = Duration::from_secs(180);
const LAST_ACKNOWLEDGEMENTS_LIMIT: Duration = Duration::from_secs(120);

/// A cluster of [`BROKERS`] whose brokers can be made to fail.
pub trait System {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    fn bootstrap(&self) -> String;

    /// The process of a broker.
    ///
    /// # Errors
    /// When it does not run.
    fn pid(&self, id: u16) -> Result<u32>;

    /// The active controller.
    ///
    /// # Errors
    /// When it is not known.
    fn controller(&self) -> Result<u16>;

    /// Has a broker that was killed run and serve again.
    ///
    /// # Errors
    /// When it does not.
    fn restore(&mut self, id: u16, killed_pid: u32) -> Result<()>;
}

/// What happens to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// kill -9 of one that leads and is not the controller
    LeaderKilled,
    /// kill -9 of the active controller, which leads, too
    ControllerKilled,
    /// SIGSTOP of one that leads and is not the controller, SIGCONT later
    LeaderPaused,
}

impl Fault {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 3] = [
        Self::LeaderKilled,
        Self::ControllerKilled,
        Self::LeaderPaused,
    ];
}

/// Lets `fault` happen so many times under load. Returns the longest time without progress on a
/// partition for each, in order.
///
/// # Errors
/// When a message is lost, repeated or out of order, or the cluster does not recover.
pub fn measure(system: &mut dyn System, fault: Fault, rounds: usize) -> Result<Vec<Duration>> {
    let client = franz_go(&system.bootstrap())?;
    let topic = format!("failover-{fault:?}").to_lowercase();
    client.create_topic(&topic, PARTITIONS, BROKERS.into())?;
    wait_until_balanced(&client, &topic)?;
    let partitions = PARTITIONS.to_string();
    let load = client.tool(&["impatient-load", &topic, &partitions, MESSAGES_PER_SECOND]);
    let mut load = load.spawn()?;
    warm_up(&mut load)?;
    let mut spans = Vec::new();
    for round in 1..=rounds {
        let span = one(system, &client, &topic, fault).with_context(|| format!("round {round}"))?;
        spans.push(span);
    }
    let output = load.stop(Signal::TERM, LAST_ACKNOWLEDGEMENTS_LIMIT)?;
    let load = Load::parse(&output.stdout)?;
    load.verify(&read(&client, &topic)?)?;
    client.delete_topic(&topic)?;
    let stalls = spans.iter();
    let stalls = stalls.map(|(from, until)| load.longest_stall_us(*from, *until));
    Ok(stalls.map(Duration::from_micros).collect())
}

/// The whole topic. Leaders that have just changed may not know their high watermark yet.
fn read(client: &Program, topic: &str) -> Result<String> {
    let mut stdout = String::new();
    wait_until("the topic can be read", SETTLE_LIMIT, || {
        let read = client.tool(&["read", topic]).run();
        read.is_ok_and(|output| {
            stdout = output.stdout;
            true
        })
    })?;
    Ok(stdout)
}

fn warm_up(load: &mut Running) -> Result<()> {
    load.wait_for("messages are acknowledged", TIME_LIMIT, |load| {
        load.stdout_lines() > PARTITIONS
    })?;
    sleep(WARM_UP);
    Ok(())
}

/// One fault, and everything in order again. Returns the time between, in microseconds since 1970.
fn one(system: &mut dyn System, client: &Program, topic: &str, fault: Fault) -> Result<(u64, u64)> {
    let controller = system.controller()?;
    let target = match fault {
        Fault::ControllerKilled => controller,
        Fault::LeaderKilled | Fault::LeaderPaused => (controller + 1) % BROKERS,
    };
    let pid = system.pid(target)?;
    let from = now_us();
    let signal = match fault {
        Fault::LeaderPaused => Signal::STOP,
        Fault::LeaderKilled | Fault::ControllerKilled => Signal::KILL,
    };
    send_signal(pid, signal)?;
    let others = others(system, target)?;
    let outcome = wait_for(&others, topic, "the others lead", |partitions| {
        partitions
            .iter()
            .all(|p| p.leader >= 0 && p.leader != i32::from(target))
    });
    sleep(BACK_AFTER);
    match fault {
        Fault::LeaderPaused => send_signal(pid, Signal::CONT)?,
        Fault::LeaderKilled | Fault::ControllerKilled => system.restore(target, pid)?,
    }
    outcome?;
    wait_until_balanced(client, topic)?;
    Ok((from, now_us()))
}

/// A client that does not ask the broker that fails.
fn others(system: &dyn System, without: u16) -> Result<Program> {
    let bootstrap = system.bootstrap();
    let addresses = bootstrap.split(',').enumerate();
    let rest = addresses.filter(|(id, _)| *id != usize::from(without));
    let rest: Vec<_> = rest.map(|(_, address)| address).collect();
    franz_go(&rest.join(","))
}

/// Every replica in sync, and every partition led by its preferred one.
fn wait_until_balanced(client: &Program, topic: &str) -> Result<()> {
    wait_for(client, topic, "leaders are balanced", |partitions| {
        let settled = |p: &PartitionState| {
            p.isr.len() == p.replicas.len() && p.replicas.first() == Some(&p.leader)
        };
        partitions.len() == PARTITIONS && partitions.iter().all(settled)
    })
}

fn wait_for(
    client: &Program,
    topic: &str,
    what: &str,
    done: impl Fn(&[PartitionState]) -> bool,
) -> Result<()> {
    wait_until(what, SETTLE_LIMIT, || {
        client
            .describe_topic(topic)
            .is_ok_and(|partitions| done(&partitions))
    })
}

/// The table of the report: median and maximum of each fault and system, in seconds.
#[must_use]
pub fn table(faults: &[Fault], systems: &[(&str, Vec<Vec<Duration>>)]) -> String {
    let mut lines = vec![format!(
        "{:<18}{:<10}{:>8}{:>8}",
        "fault", "system", "median", "max"
    )];
    for (index, fault) in faults.iter().enumerate() {
        let medians = systems.iter().map(|(name, stalls)| {
            let mut stalls = stalls[index].clone();
            stalls.sort_unstable();
            let median = stalls[stalls.len() / 2].as_secs_f64();
            let max = stalls[stalls.len() - 1].as_secs_f64();
            let fault = format!("{fault:?}");
            lines.push(format!("{fault:<18}{name:<10}{median:>8.2}{max:>8.2}"));
            median
        });
        let medians: Vec<_> = medians.collect();
        if let [ours, theirs] = medians[..] {
            lines.push(format!("{:<18}{:<10}{:>8.2}", "", "ratio", ours / theirs));
        }
    }
    lines.join("\n")
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.expect("the clock is past 1970");
    u64::try_from(since.as_micros()).expect("the clock is before the year 586,000")
}
