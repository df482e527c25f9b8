//! Topics: made, deleted, and who leads their partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use broker_wire::message::create_topics::{CreatableTopic, CreatableTopicConfig};
use broker_wire::message::delete_topics::DeleteTopicState;
use broker_wire::message::metadata::{MetadataRequestTopic, MetadataResponse};
use broker_wire::message::{CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};
use broker_wire::{ErrorCode, Str};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;

const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;
const METADATA_VERSION: i16 = 8;
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Which topic of which cluster.
#[derive(Clone, clap::Args)]
pub(crate) struct Bootstrap {
    /// Addresses of brokers, with commas between
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub(crate) bootstrap: String,
    #[arg(long, default_value = "bench")]
    pub(crate) topic: String,
}

/// A topic to be made.
#[derive(Clone, clap::Args)]
pub(crate) struct TopicOptions {
    #[command(flatten)]
    pub(crate) at: Bootstrap,
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    #[arg(long, default_value_t = 1)]
    replicas: i16,
    /// A configuration value of the topic
    #[arg(long = "config", value_name = "KEY=VALUE")]
    configs: Vec<String>,
}

impl Bootstrap {
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> + Clone {
        self.bootstrap.split(',')
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let first = self.addresses().next().unwrap_or_default();
        Connection::open(first).await
    }
}

/// The partitions of a topic by the address of their leader.
pub(crate) type Leaders = BTreeMap<String, Vec<i32>>;

pub(crate) async fn create_topic(options: &TopicOptions) -> Result<()> {
    let mut connection = options.at.connect().await?;
    create_on(&mut connection, options).await?;
    leaders(&options.at).await?;
    Ok(())
}

/// Makes the topic unless it is there.
pub(crate) async fn create_on(connection: &mut Connection, options: &TopicOptions) -> Result<()> {
    let configs = options.configs.iter().map(|config| {
        let (name, value) = config.split_once('=').context("not KEY=VALUE")?;
        Ok(CreatableTopicConfig {
            name: Str::from(name.to_owned()),
            value: Some(Str::from(value.to_owned())),
        })
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: Str::from(options.at.topic.clone()),
            num_partitions: options.partitions,
            replication_factor: options.replicas,
            configs: configs.collect::<Result<_>>()?,
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let response = connection.call(CREATE_TOPICS_VERSION, &request).await?;
    let result = response.topics.first().context("no topic in the answer")?;
    let made = [ErrorCode::None, ErrorCode::TopicAlreadyExists];
    ensure!(
        made.contains(&result.error_code),
        "the topic is not created: {:?} {:?}",
        result.error_code,
        result.error_message
    );
    Ok(())
}

pub(crate) async fn delete_topic(at: &Bootstrap) -> Result<()> {
    let request = DeleteTopicsRequest {
        topic_names: vec![Str::from(at.topic.clone())],
        topics: Vec::<DeleteTopicState>::new(),
        timeout_ms: 60_000,
    };
    let mut connection = at.connect().await?;
    let response = connection.call(DELETE_TOPICS_VERSION, &request).await?;
    let result = response
        .responses
        .first()
        .context("no topic in the answer")?;
    ensure!(
        result.error_code == ErrorCode::None,
        "{:?}",
        result.error_code
    );
    Ok(())
}

/// Waits until every partition has a leader and all replicas in sync.
pub(crate) async fn leaders(at: &Bootstrap) -> Result<Leaders> {
    let mut connection = at.connect().await?;
    let request = MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(Str::from(at.topic.clone())),
            ..MetadataRequestTopic::default()
        }]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let deadline = Instant::now() + SETTLE_LIMIT;
    while Instant::now() < deadline {
        let metadata = connection.call(METADATA_VERSION, &request).await?;
        if let Some(leaders) = settled(&metadata) {
            return Ok(leaders);
        }
        sleep(POLL_INTERVAL).await;
    }
    bail!(
        "topic {} does not get all its replicas in sync within {SETTLE_LIMIT:?}",
        at.topic
    )
}

fn settled(metadata: &MetadataResponse) -> Option<Leaders> {
    let topic = metadata.topics.first()?;
    let mut leaders = Leaders::new();
    for partition in &topic.partitions {
        let leader = partition.leader_id;
        let broker = metadata.brokers.iter().find(|b| b.node_id == leader)?;
        if partition.isr_nodes.len() < partition.replica_nodes.len() {
            return None;
        }
        let address = format!("{}:{}", &*broker.host, broker.port);
        let partitions = leaders.entry(address).or_default();
        partitions.push(partition.partition_index);
    }
    (topic.error_code == ErrorCode::None && !leaders.is_empty()).then_some(leaders)
}
