//! Where a client that asked the wrong broker is to turn to (KIP-951).

use std::collections::BTreeSet;

use broker_core::metadata::{Endpoint, Image};
use broker_core::{BrokerId, LeaderEpoch, TopicPartition};
use broker_wire::ErrorCode;

/// Leaders named in one response; collects whose addresses it has to give.
pub(super) struct CurrentLeaders<'a> {
    image: &'a Image,
    listener: &'a str,
    named: BTreeSet<BrokerId>,
}

/// A broker's address for the listener of the request.
pub(super) struct LeaderEndpoint<'a> {
    pub(super) id: BrokerId,
    pub(super) endpoint: &'a Endpoint,
    pub(super) rack: Option<&'a str>,
}

impl<'a> CurrentLeaders<'a> {
    pub(super) const fn new(image: &'a Image, listener: &'a str) -> Self {
        Self {
            image,
            listener,
            named: BTreeSet::new(),
        }
    }

    /// Leader and leader epoch of the partition, if `error` says that the client asked the wrong
    /// broker and a leader is known.
    pub(super) fn name(
        &mut self,
        error: ErrorCode,
        partition: TopicPartition,
    ) -> Option<(BrokerId, LeaderEpoch)> {
        if !matches!(
            error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch
        ) {
            return None;
        }
        let state = self.image.partition(partition)?;
        let leader = state.leader?;
        self.named.insert(leader);
        Some((leader, state.leader_epoch))
    }

    /// Addresses of the leaders named so far.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = LeaderEndpoint<'a>> {
        self.named.iter().filter_map(|id| {
            let broker = self.image.brokers.get(id)?;
            let endpoint = broker.endpoint(self.listener)?;
            Some(LeaderEndpoint {
                id: *id,
                endpoint,
                rack: broker.rack.as_deref(),
            })
        })
    }
}
