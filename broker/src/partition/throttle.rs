//! Which pulls are throttled (KIP-73), and how far a follower has come.

use broker_core::{BrokerId, PartitionIndex};

use super::Partition;

impl Partition {
    /// Follower: whether what this replica pulls counts for the throttle.
    #[must_use]
    pub fn is_throttled(&self, me: BrokerId) -> bool {
        let state = self.state.lock();
        let throttled = &state.config.follower_throttled_replicas;
        let counts = throttled.contains(self.id.partition, me) || state.is_moved_by_controller(me);
        counts && !state.is_in_sync(me)
    }

    /// Offsets that this replica still has to copy before a reassignment can be complete, as far as
    /// its leader has told; `None` when it is not being added.
    #[must_use]
    pub fn offsets_to_copy(&self, me: BrokerId) -> Option<u64> {
        let state = self.state.lock();
        let assigned = state.assigned.as_ref()?;
        if !assigned.adding.contains(&me) || assigned.isr.contains(&me) {
            return None;
        }
        Some(state.replica.offsets_behind_leader(state.log.end_offset()))
    }

    /// Committed offsets that this replica lacks, as far as its leader has told; a leader lacks none.
    #[must_use]
    pub fn lag_offsets(&self) -> u64 {
        let state = self.state.lock();
        if state.replica.is_leader() {
            return 0;
        }
        state.replica.offsets_behind_leader(state.log.end_offset())
    }
}

impl super::State {
    /// Leader: whether what `follower` pulls counts for the throttle: the topic asks for it here, or
    /// the replica replaces one of a dead broker or is part of a rebalance, and the follower is not in
    /// sync.
    pub(super) fn throttles_follower(&self, partition: PartitionIndex, follower: BrokerId) -> bool {
        let throttled = &self.config.leader_throttled_replicas;
        let counts = throttled.contains(partition, self.replica.me())
            || self.is_moved_by_controller(follower);
        counts && !self.is_in_sync(follower)
    }

    fn is_moved_by_controller(&self, replica: BrokerId) -> bool {
        let Some(assigned) = &self.assigned else {
            return false;
        };
        (assigned.replaces_dead || assigned.rebalances) && assigned.adding.contains(&replica)
    }

    fn is_in_sync(&self, replica: BrokerId) -> bool {
        let assigned = self.assigned.as_ref();
        assigned.is_some_and(|assigned| assigned.isr.contains(&replica))
    }
}
