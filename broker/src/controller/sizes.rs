//! How large the partitions are, asked of the brokers that lead them while the cluster is rebalanced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::{BrokerId, PartitionIndex, Time, TopicId, TopicPartition};
use futures::StreamExt as _;
use klamm_proto::v1::{LedSizesRequest, PartitionSize};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::peers::Peers;

/// Bytes of one replica of each partition; partitions whose leaders did not answer are missing.
pub type PartitionSizes = BTreeMap<TopicPartition, u64>;

/// Time after which the brokers are asked anew.
const AGE_MAX: Duration = Duration::from_secs(60);
/// How long one of them may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Brokers that are asked at a time.
const ASKED_MAX: usize = 16;

/// See the module's documentation.
pub(crate) struct Sizes {
    peers: Arc<Peers>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    known: Option<Arc<PartitionSizes>>,
    asked_at: Option<Time>,
}

impl Sizes {
    pub(crate) fn new(peers: Arc<Peers>) -> Self {
        Self {
            peers,
            state: Arc::default(),
        }
    }

    /// What the brokers said, `None` before the first answers. Asks them if that is long ago.
    pub(crate) fn look(&self, now: Time, image: &Image) -> Option<Arc<PartitionSizes>> {
        let mut state = self.state.lock();
        let is_old = |at: Time| now.since(at) >= AGE_MAX;
        if state.asked_at.is_none_or(is_old) {
            state.asked_at = Some(now);
            let brokers = image.brokers.values();
            let alive = brokers.filter(|broker| broker.is_active());
            let asked = ask(
                Arc::clone(&self.peers),
                alive.map(|broker| broker.id).collect(),
            );
            let state = Arc::clone(&self.state);
            tokio::spawn(async move {
                let known = asked.await;
                let mut state = state.lock();
                // Unless they were forgotten meanwhile.
                if state.asked_at == Some(now) {
                    state.known = Some(Arc::new(known));
                }
            });
        }
        state.known.clone()
    }

    /// Nobody needs them any more.
    pub(crate) fn forget(&self) {
        *self.state.lock() = State::default();
    }
}

async fn ask(peers: Arc<Peers>, brokers: Vec<BrokerId>) -> PartitionSizes {
    let answers = futures::stream::iter(brokers).map(|broker| {
        let peers = Arc::clone(&peers);
        async move {
            let mut client = peers.replica_client(broker)?;
            match timeout(ANSWER_TIMEOUT, client.led_sizes(LedSizesRequest {})).await {
                Ok(Ok(answer)) => Some(answer.into_inner().partitions),
                Ok(Err(status)) => {
                    tracing::warn!(%broker, %status, "the sizes of its partitions are not known");
                    None
                }
                Err(_) => {
                    tracing::warn!(%broker, "the sizes of its partitions are not known: no answer");
                    None
                }
            }
        }
    });
    let answers = answers.buffer_unordered(ASKED_MAX);
    let answers: Vec<_> = answers
        .filter_map(|answer| async { answer })
        .collect()
        .await;
    answers.into_iter().flatten().filter_map(size).collect()
}

fn size(told: PartitionSize) -> Option<(TopicPartition, u64)> {
    let key = told.partition?;
    let id = TopicPartition {
        topic: TopicId(key.topic_id.as_ref().try_into().ok()?),
        partition: PartitionIndex(key.partition),
    };
    Some((id, told.bytes))
}
