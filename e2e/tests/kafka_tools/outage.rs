//! What the tools show, and refuse, while a broker does not answer.

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::cluster::Cluster;
use klamm_e2e::process::{Signal, pause, send_signal, wait_until};
use klamm_e2e::suite::TIME_LIMIT;
use klamm_e2e::tool::Tool;

use crate::tools::{Tools, ask, together};

pub(crate) const NAME: &str = "the tools show what is wrong while a broker is paused";

const PAUSED: u16 = 2;

/// Goes on when it is dropped.
struct Pause(u32);

impl Pause {
    fn begin(pid: u32) -> Result<Self> {
        let paused = Self(pid);
        pause(pid)?;
        Ok(paused)
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // The broker may have been killed meanwhile.
        let _ = send_signal(self.0, Signal::CONT);
    }
}

pub(crate) fn case(tools: &Tools, cluster: &Cluster) -> Result<()> {
    // By way of the others: the paused one takes connections and does not answer.
    let others = format!(
        "{},{}",
        cluster.client_address(0),
        cluster.client_address(1)
    );
    let tool = |class: &str, args: &str| -> Tool {
        tools
            .bare(class, "")
            .args(["--bootstrap-server", &others])
            .args(args.split_whitespace())
    };
    let topics = |args: &str| tool("TopicCommand", args);
    let elect = |args: &str| tool("LeaderElectionCommand", args);
    tools.create("alone", "--replica-assignment 2")?;
    tools.create(
        "pair",
        "--replica-assignment 2:0 --config min.insync.replicas=1",
    )?;
    let paused = Pause::begin(cluster.pid(PAUSED)?)?;

    let lagging = "Topic: pair\tPartition: 0\tLeader: 0\tReplicas: 2,0\tIsr: 0\t";
    wait_until("the partition is under-replicated", TIME_LIMIT, || {
        ask(topics("--describe --under-replicated-partitions"))
            .is_ok_and(|answer| answer.prints(&[lagging]).is_ok())
    })?;
    let [offline, alone, preferred, endpoints] = together([
        topics("--describe --unavailable-partitions"),
        topics("--describe --topic alone"),
        elect("--election-type preferred --topic pair --partition 0"),
        tools
            .bare(
                "ClusterTool",
                "list-endpoints --include-fenced-brokers --bootstrap-server",
            )
            .args([&others]),
    ])?;
    offline.prints(&["Topic: alone\tPartition: 0\tLeader: none\tReplicas: 2\t"])?;
    offline.prints_none_of(&["pair"])?;
    alone.prints(&["Leader: none"])?;
    preferred.fails(&["PreferredLeaderNotAvailableException"])?;
    for (id, state) in [("0", "unfenced"), ("1", "unfenced"), ("2", "fenced")] {
        let rows = endpoints.rows(id);
        let row = rows.first().with_context(|| endpoints.description())?;
        ensure!(row.get(4) == Some(&state), "{}", endpoints.description());
    }
    let unclean = ask(elect("--election-type unclean --topic alone --partition 0"))?;
    unclean.fails(&["EligibleLeadersNotAvailableException"])?;

    drop(paused);
    wait_until("all replicas are in sync", TIME_LIMIT, || {
        ask(topics("--describe --under-replicated-partitions"))
            .is_ok_and(|answer| answer.prints_nothing().is_ok())
    })?;
    // Brokers may have done it by themselves.
    ask(elect(
        "--election-type preferred --topic pair --partition 0",
    ))?
    .prints(&["pair-0"])?;
    ask(topics("--describe --topic pair"))?.prints(&["Leader: 2\tReplicas: 2,0\tIsr: "])
}
