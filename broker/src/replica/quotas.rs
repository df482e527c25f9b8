//! This broker's throttles for replicas out of sync, from the settings in the metadata.

use broker_core::BrokerId;
use broker_core::metadata::Image;

use crate::config::keys::{FOLLOWER_THROTTLED_RATE, LEADER_THROTTLED_RATE};
use crate::quota::Quota;

/// What throttled replicas may serve and pull. Shared by all streams.
#[derive(Debug, Default)]
pub struct ReplicationQuotas {
    pub(super) leader: Quota,
    pub(super) follower: Quota,
}

impl ReplicationQuotas {
    /// Takes over the rates that hold for broker `me`.
    pub fn configure(&self, image: &Image, me: BrokerId) {
        self.leader.configure(image, me, LEADER_THROTTLED_RATE);
        self.follower.configure(image, me, FOLLOWER_THROTTLED_RATE);
    }
}
