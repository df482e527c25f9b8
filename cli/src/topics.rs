//! `klamm topics`

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use klamm_client::admin::NewTopic;
use klamm_client::{Cluster, Metadata, Partition, Topic};
use serde::Serialize;

use crate::configs::key_value;
use crate::output::Output;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List topics
    List {
        /// Those of the brokers, too
        #[arg(long)]
        internal: bool,
    },
    /// Show the partitions of a topic: leaders, replicas, offsets
    Describe { topic: String },
    /// Create a topic
    Create {
        topic: String,
        /// The cluster's default without
        #[arg(long, short, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// The cluster's default without
        #[arg(long, short, value_parser = clap::value_parser!(i16).range(1..))]
        replicas: Option<i16>,
        /// A configuration value; can be given several times
        #[arg(long = "config", short, value_name = "KEY=VALUE", value_parser = key_value)]
        configs: Vec<(String, String)>,
    },
    /// Raise the number of partitions; records with keys go to other ones from then on
    AddPartitions {
        topic: String,
        /// How many there shall be
        #[arg(long, short)]
        partitions: i32,
    },
    /// Delete a topic with all its records
    Delete { topic: String },
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    partitions: usize,
    replicas: usize,
    internal: bool,
}

#[derive(Serialize)]
struct Described {
    partition: i32,
    leader: Option<i32>,
    replicas: Vec<i32>,
    in_sync: Vec<i32>,
    offline: Vec<i32>,
    /// `null` without a leader.
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

pub(crate) async fn run(cluster: &Cluster, output: Output, command: Command) -> Result<()> {
    match command {
        Command::List { internal } => list(&cluster.metadata(None).await?, output, internal),
        Command::Describe { topic } => describe(cluster, output, &topic).await,
        Command::Create {
            topic,
            partitions,
            replicas,
            configs,
        } => {
            let new = NewTopic {
                name: topic.clone(),
                partitions,
                replicas,
                configs,
            };
            cluster.create_topic(&new).await?;
            output.done(&format!("topic {topic} is created"))
        }
        Command::AddPartitions { topic, partitions } => {
            cluster.add_partitions(&topic, partitions).await?;
            output.done(&format!("topic {topic} has {partitions} partitions"))
        }
        Command::Delete { topic } => {
            cluster.delete_topic(&topic).await?;
            output.done(&format!("topic {topic} is deleted"))
        }
    }
}

fn list(metadata: &Metadata, output: Output, internal: bool) -> Result<()> {
    let shown = metadata.topics.values();
    let shown = shown.filter(|topic| internal || !topic.internal);
    let listed: Vec<_> = shown
        .map(|topic| Listed {
            name: &topic.name,
            partitions: topic.partitions.len(),
            replicas: topic
                .partitions
                .iter()
                .map(|p| p.replicas.len())
                .max()
                .unwrap_or(0),
            internal: topic.internal,
        })
        .collect();
    let rows = listed.iter().map(|topic| {
        let (partitions, replicas) = (topic.partitions.to_string(), topic.replicas.to_string());
        [topic.name.to_owned(), partitions, replicas]
    });
    output.print(&listed, ["TOPIC", "PARTITIONS", "REPLICAS"], rows.collect())
}

async fn describe(cluster: &Cluster, output: Output, name: &str) -> Result<()> {
    let metadata = cluster.metadata(Some(&[name])).await?;
    let topic = find(&metadata, name)?;
    let led = topic.partitions.iter().filter(|p| p.leader.is_some());
    let led: Vec<_> = led.map(|partition| partition.index).collect();
    let offsets = cluster.offsets(name, &led).await?;
    let described: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| describe_partition(partition, offsets.get(&partition.index).copied()))
        .collect();
    let unknown = |offset: Option<i64>| offset.map_or_else(|| "-".to_owned(), |o| o.to_string());
    let rows = described.iter().map(|partition| {
        [
            partition.partition.to_string(),
            partition
                .leader
                .map_or_else(|| "none".to_owned(), |id| id.to_string()),
            ids(&partition.replicas),
            ids(&partition.in_sync),
            unknown(partition.start_offset),
            unknown(partition.end_offset),
        ]
    });
    let rows = rows.collect();
    let heading = ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END"];
    output.print(&described, heading, rows)
}

fn describe_partition(partition: &Partition, offsets: Option<(i64, i64)>) -> Described {
    Described {
        partition: partition.index,
        leader: partition.leader,
        replicas: partition.replicas.clone(),
        in_sync: partition.isr.clone(),
        offline: partition.offline.clone(),
        start_offset: offsets.map(|(start, _)| start),
        end_offset: offsets.map(|(_, end)| end),
    }
}

/// The topic, if it exists.
pub(crate) fn find<'a>(metadata: &'a Metadata, name: &str) -> Result<&'a Topic> {
    if let Some(code) = metadata.failures.get(name)
        && *code != klamm_client::ErrorCode::UnknownTopicOrPartition
    {
        bail!("topic {name}: {code:?}");
    }
    let found = metadata.topics.get(name);
    found.with_context(|| {
        format!("topic {name} does not exist; `klamm topics list` shows what there is")
    })
}

pub(crate) fn ids(ids: &[i32]) -> String {
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}
