//! `klamm cluster`

use std::process::ExitCode;

use anyhow::Result;
use klamm_client::{Cluster, Metadata};
use serde::Serialize;

use crate::output::{Output, print_line};

#[derive(Serialize)]
struct Health<'a> {
    cluster_id: Option<&'a str>,
    brokers: Vec<Broker<'a>>,
    partitions: usize,
    without_leader: usize,
    under_replicated: usize,
}

#[derive(Serialize)]
struct Broker<'a> {
    id: i32,
    address: &'a str,
    rack: Option<&'a str>,
    leaders: usize,
    replicas: usize,
}

/// Fails when a partition can't be written to or has fewer replicas than it should.
pub(crate) async fn run(cluster: &Cluster, output: Output) -> Result<ExitCode> {
    let metadata = cluster.metadata(None).await?;
    let health = examine(&metadata);
    let rows = health.brokers.iter().map(|broker| {
        [
            broker.id.to_string(),
            broker.address.to_owned(),
            broker.rack.unwrap_or("-").to_owned(),
            broker.leaders.to_string(),
            broker.replicas.to_string(),
        ]
    });
    let rows = rows.collect();
    let heading = ["BROKER", "ADDRESS", "RACK", "LEADERS", "REPLICAS"];
    output.print(&health, heading, rows)?;
    let healthy = health.without_leader == 0 && health.under_replicated == 0;
    if output == Output::Table {
        let partitions = health.partitions;
        print_line(&match healthy {
            true => format!("healthy: all {partitions} partitions have a leader and all replicas"),
            false => format!(
                "of {partitions} partitions {} have no leader, {} lack replicas; `klamm topics describe` \
                 shows which",
                health.without_leader, health.under_replicated
            ),
        })?;
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn examine(metadata: &Metadata) -> Health<'_> {
    let partitions = || metadata.topics.values().flat_map(|topic| &topic.partitions);
    let brokers = metadata.brokers.values().map(|broker| Broker {
        id: broker.id,
        address: &broker.address,
        rack: broker.rack.as_deref(),
        leaders: partitions().filter(|p| p.leader == Some(broker.id)).count(),
        replicas: partitions()
            .filter(|p| p.replicas.contains(&broker.id))
            .count(),
    });
    Health {
        cluster_id: metadata.cluster_id.as_deref(),
        brokers: brokers.collect(),
        partitions: partitions().count(),
        without_leader: partitions().filter(|p| p.leader.is_none()).count(),
        under_replicated: partitions()
            .filter(|p| p.isr.len() < p.replicas.len())
            .count(),
    }
}
