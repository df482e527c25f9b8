//! The active controller's view of the cluster, for answers that must not be outdated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::metadata::Image;
use klamm_proto::v1::admin_client::AdminClient;
use tokio::time::timeout;

use super::{Controller, EvacuationStatus, RebalanceStatus};
use crate::rpc::Connection;

/// How long a majority may take to confirm the controller.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The cluster at one offset of the metadata log.
#[derive(Clone, Debug)]
pub struct ControllerView {
    pub metadata_offset: u64,
    /// Term of the quorum.
    pub controller_epoch: u64,
    pub image: Arc<Image>,
    pub voters: Vec<BrokerId>,
    /// Brokers that may have died unnoticed, and voters that are far behind.
    pub doubtful: BTreeSet<BrokerId>,
    /// `min.insync.replicas` where neither topic nor cluster sets it.
    pub min_insync_replicas_default: usize,
}

/// Why this broker has no [`ControllerView`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Another broker is the active controller, as far as this one knows.
    #[error("broker {0} is the active controller")]
    Elsewhere(BrokerId),
    /// There is no active controller, or no majority has confirmed this one in time.
    #[error("there is no active controller that a majority of the voters follows; retry")]
    NoController,
}

impl Controller {
    /// What the active controller, if it is this broker, knows now: everything that was committed
    /// before the call.
    ///
    /// # Errors
    /// [`ViewError`] when this broker is not the active controller for certain.
    pub async fn view(&self) -> Result<ControllerView, ViewError> {
        let active = self.active_controller().ok_or(ViewError::NoController)?;
        if active != self.me {
            return Err(ViewError::Elsewhere(active));
        }
        let quorum = &self.quorum;
        let leading = *quorum.leadership().borrow();
        let confirmation = timeout(CONFIRMATION_TIMEOUT, quorum.confirm_leadership());
        if !matches!(confirmation.await, Ok(Ok(()))) {
            return Err(ViewError::NoController);
        }
        // Sessions exist from when this term's first decision is applied.
        let silent = self.sessions.silent().ok_or(ViewError::NoController)?;
        let position = self.feed.position();
        let lagging = quorum.lagging_voters();
        let voters = quorum.members().borrow().voter_ids();
        let view = ControllerView {
            metadata_offset: position.offset.unwrap_or_default(),
            controller_epoch: leading.term,
            image: position.image,
            voters: voters.into_iter().collect(),
            doubtful: silent.into_iter().chain(lagging).collect(),
            min_insync_replicas_default: self.defaults.min_insync_replicas,
        };
        if *quorum.leadership().borrow() == leading {
            Ok(view)
        } else {
            Err(ViewError::NoController)
        }
    }

    /// How far the evacuation of `broker` is, if this broker is the active controller.
    #[must_use]
    pub fn evacuation(&self, broker: BrokerId) -> Option<EvacuationStatus> {
        self.evacuations.status(broker)
    }

    /// How far the rebalance is, if there is one and this broker is the active controller.
    #[must_use]
    pub fn rebalance(&self) -> Option<RebalanceStatus> {
        self.rebalancing.status()
    }

    /// Size of the logs of `broker`, if it has told this broker.
    #[must_use]
    pub fn hosted_bytes(&self, broker: BrokerId) -> Option<u64> {
        let progress = self.sessions.follower(broker)?;
        Some(progress.hosted_bytes)
    }

    /// A client of `broker`'s Admin service, `None` when its address is not known.
    #[must_use]
    pub fn admin_client(&self, broker: BrokerId) -> Option<AdminClient<Connection>> {
        self.peers.admin_client(broker)
    }
}
