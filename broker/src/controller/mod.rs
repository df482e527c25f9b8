//! Cluster metadata and the controller that changes it (KIP-500).
//!
//! Every broker has a [`Controller`]. Voters agree on the metadata log ([`raft`]); the one that
//! leads them is the active controller and decides commands ([`task`], [`liveness`]); the other
//! brokers follow committed records ([`follow`]). All brokers register and heartbeat alike
//! ([`registration`]).
//!
//! Everything here runs on the Tokio runtime on which [`Controller::start`] was called: give it one
//! of its own, so that a stalled data disk does not cause elections. The handle may be used from
//! any runtime.

mod error;
mod feed;
mod follow;
mod leases;
mod liveness;
mod options;
mod peers;
mod raft;
mod registration;
mod service;
mod sessions;
mod submit;
mod task;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::controller::{Command, Defaults, RegisterBroker, Response};
use broker_core::metadata::{Counts, Image};
use broker_core::{BrokerEpoch, BrokerId};
use klamm_proto::v1::controller_server::ControllerServer;
use klamm_proto::v1::raft_server::RaftServer;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;

pub use error::SubmitError;
pub use options::{ControllerOptions, DecisionPolicy, Place, SNAPSHOT_INTERVAL_ENTRIES, Timing};
pub use raft::{QuorumError, RaftService};
pub use service::ControllerService;
pub use view::{ControllerView, ViewError};

use crate::rpc::{Guard, MESSAGE_BYTES_MAX, Token};
use feed::Feed;
use liveness::LivenessConfig;
use peers::Peers;
use raft::{Quorum, QuorumOptions};
use registration::{Membership, Registration};
use sessions::Sessions;
use submit::{MAILBOX_COMMANDS_MAX, Submitter};
use task::ControllerTask;

/// How long [`Controller::submit`] looks for an active controller and waits for its answer.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// This broker's part in the metadata quorum and its view of the cluster.
pub struct Controller {
    me: BrokerId,
    token: Token,
    timing: Timing,
    voters: BTreeMap<BrokerId, String>,
    defaults: Defaults,
    feed: Arc<Feed>,
    peers: Arc<Peers>,
    sessions: Arc<Sessions>,
    submitter: Submitter,
    quorum: Option<Arc<Quorum>>,
    membership: Arc<Membership>,
    unclean_elections: Arc<AtomicU64>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl Controller {
    /// Opens the metadata log and joins the quorum, or follows it when this broker is no voter.
    /// Other brokers need not be reachable. Mount the services before peers can succeed.
    ///
    /// # Errors
    /// When the directory cannot be used or the options contradict each other.
    pub async fn start(options: ControllerOptions) -> Result<Arc<Self>, QuorumError> {
        let feed = Arc::new(Feed::new());
        let quorum = match quorum_options(&options) {
            Some(quorum) => Some(Arc::new(Quorum::start(quorum, Arc::clone(&feed)).await?)),
            None => None,
        };
        let peers = Arc::new(Peers::new(
            options.voters.clone(),
            options.token.clone(),
            Arc::clone(&feed),
            quorum.as_ref().map(|quorum| quorum.leadership()),
        ));
        let sessions = Arc::new(Sessions::new(LivenessConfig {
            session_timeout: options.timing.session_timeout,
            reconnect_grace: options.timing.reconnect_grace,
            voters: options.voters.keys().copied().collect(),
        }));
        let defaults = options.policy.defaults;
        let mut tasks = JoinSet::new();
        let mut mailbox = None;
        let unclean_elections = Arc::default();
        if let Some(quorum) = &quorum {
            let (sender, receiver) = mpsc::channel(MAILBOX_COMMANDS_MAX);
            mailbox = Some(sender);
            let task = ControllerTask {
                me: options.broker_id,
                cluster_id: options.cluster_id,
                quorum: Arc::clone(quorum),
                feed: Arc::clone(&feed),
                sessions: Arc::clone(&sessions),
                policy: options.policy,
                leader_rebalance_interval: options.timing.leader_rebalance_interval,
                mailbox: receiver,
                unclean_elections: Arc::clone(&unclean_elections),
            };
            tasks.spawn(task.run());
        } else {
            tasks.spawn(follow::follow(Arc::clone(&peers), Arc::clone(&feed)));
        }
        Ok(Arc::new(Self {
            me: options.broker_id,
            token: options.token,
            timing: options.timing,
            voters: options.voters,
            defaults,
            submitter: Submitter::new(options.broker_id, Arc::clone(&peers), mailbox),
            feed,
            peers,
            sessions,
            quorum,
            membership: Arc::default(),
            unclean_elections,
            runtime: Handle::current(),
            tasks: Mutex::new(tasks),
        }))
    }

    /// Registers this broker and keeps it alive in the eyes of the controller from now on. It is
    /// unfenced, and may lead partitions, soon after: call this once it can. `command` holds the
    /// advertised addresses and the epoch of the last clean stop.
    pub fn join(&self, command: RegisterBroker) {
        let registration = Registration {
            me: self.me,
            command,
            submitter: self.submitter.clone(),
            peers: Arc::clone(&self.peers),
            feed: Arc::clone(&self.feed),
            membership: Arc::clone(&self.membership),
            heartbeat_interval: self.timing.heartbeat_interval,
        };
        self.tasks
            .lock()
            .spawn_on(registration.run(), &self.runtime);
    }

    /// Id of this broker.
    #[must_use]
    pub const fn id(&self) -> BrokerId {
        self.me
    }

    /// The newest metadata that this broker knows.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.feed.position().image
    }

    /// The newest metadata and its totals.
    #[must_use]
    pub fn counts(&self) -> (Arc<Image>, Counts) {
        let image = self.image();
        let counts = image.counts(self.defaults.min_insync_replicas);
        (image, counts)
    }

    /// Changes with the metadata.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.feed.images()
    }

    /// Offset of the last metadata record in [`Controller::image`]; `None` before the first one.
    #[must_use]
    pub fn metadata_offset(&self) -> Option<u64> {
        self.feed.position().offset
    }

    /// Has `command` decided and committed, wherever the active controller runs, and returns once
    /// that is done. Metadata here may be a moment behind then, unless this is that broker.
    ///
    /// # Errors
    /// [`SubmitError::NoController`] without effect, [`SubmitError::OutcomeUnknown`] with a
    /// possible effect.
    pub async fn submit(&self, command: Command) -> Result<Response, SubmitError> {
        self.submit_within(command, SUBMIT_TIMEOUT).await
    }

    /// As [`Controller::submit`] with a time limit of the caller's.
    ///
    /// # Errors
    /// As [`Controller::submit`].
    pub async fn submit_within(
        &self,
        command: Command,
        limit: Duration,
    ) -> Result<Response, SubmitError> {
        self.submitter.submit(command, limit).await
    }

    /// The active controller, as far as this broker knows.
    #[must_use]
    pub fn active_controller(&self) -> Option<BrokerId> {
        self.peers.active_controller()
    }

    /// The current voters, as far as this broker knows them; a broker that is no voter knows the
    /// initial ones.
    #[must_use]
    pub fn voters(&self) -> Vec<BrokerId> {
        match &self.quorum {
            Some(quorum) => quorum.voters(),
            None => self.voters.keys().copied().collect(),
        }
    }

    /// Term of the quorum, raised by every election; 0 on a broker that is no voter.
    #[must_use]
    pub fn controller_epoch(&self) -> u64 {
        self.quorum
            .as_ref()
            .map_or(0, |quorum| quorum.leadership().borrow().term)
    }

    /// Leaders elected while this broker was the active controller that may lack acknowledged
    /// records.
    #[must_use]
    pub fn unclean_elections(&self) -> u64 {
        self.unclean_elections.load(Ordering::Relaxed)
    }

    /// Epoch of this broker's registration; `None` before the first one.
    #[must_use]
    pub fn broker_epoch(&self) -> Option<BrokerEpoch> {
        *self.membership.epoch.borrow()
    }

    /// Changes with [`Controller::broker_epoch`].
    #[must_use]
    pub fn broker_epochs(&self) -> watch::Receiver<Option<BrokerEpoch>> {
        self.membership.epoch.subscribe()
    }

    /// Whether the controller lets no partition be led from here.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        let epoch = self.broker_epoch();
        let image = self.image();
        let registered = image
            .brokers
            .get(&self.me)
            .filter(|known| Some(known.epoch) == epoch);
        registered.is_none_or(|known| known.fenced)
    }

    /// Asks for this broker's leaders to be moved away and waits for it; false when `limit` passed
    /// first. Then another voter becomes the active controller, if this broker is it.
    pub async fn request_shutdown(&self, limit: Duration) -> bool {
        self.membership.wants_shutdown.send_replace(true);
        let mut may_shutdown = self.membership.may_shutdown.subscribe();
        let done = may_shutdown.wait_for(|may| *may);
        let moved = matches!(timeout(limit, done).await, Ok(Ok(_)));
        if let Some(quorum) = &self.quorum {
            quorum.hand_over(self.timing.election_timeout).await;
        }
        moved
    }

    /// Returns with the reason once this voter has failed and must be restarted; never on a broker
    /// that is no voter.
    pub async fn failed(&self) -> String {
        if let Some(quorum) = &self.quorum
            && let Ok(reason) = quorum.failure().wait_for(Option::is_some).await
        {
            return reason.clone().unwrap_or_default();
        }
        std::future::pending().await
    }

    /// The service for the other voters, guarded by the token; `None` when this broker is no voter.
    #[must_use]
    pub fn raft_server(&self) -> Option<InterceptedService<RaftServer<RaftService>, Guard>> {
        let service = self.quorum.as_ref()?.service();
        let server = RaftServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Some(InterceptedService::new(server, self.token.guard()))
    }

    /// The service for the other brokers, guarded by the token.
    #[must_use]
    pub fn controller_server(
        &self,
    ) -> InterceptedService<ControllerServer<ControllerService>, Guard> {
        let server = ControllerServer::new(ControllerService {
            me: self.me,
            feed: Arc::clone(&self.feed),
            peers: Arc::clone(&self.peers),
            sessions: Arc::clone(&self.sessions),
            submitter: self.submitter.clone(),
            serves_followers: self.quorum.is_some(),
        })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(server, self.token.guard())
    }

    /// Leaves: the heartbeat stream is closed and the metadata log with it. The services answer
    /// with errors from now on.
    pub async fn shutdown(&self) {
        self.tasks.lock().abort_all();
        self.sessions.end();
        if let Some(quorum) = &self.quorum {
            quorum.shutdown().await;
        }
    }
}

/// `None` when this broker is no voter.
fn quorum_options(options: &ControllerOptions) -> Option<QuorumOptions> {
    options.voters.get(&options.broker_id)?;
    let raw = |id: BrokerId| u64::try_from(id.0).ok();
    let voters = options.voters.iter();
    Some(QuorumOptions {
        node_id: raw(options.broker_id)?,
        directory: options.directory.clone(),
        voters: voters
            .filter_map(|(id, address)| Some((raw(*id)?, address.clone())))
            .collect(),
        token: options.token.clone(),
        election_timeout: options.timing.election_timeout,
        snapshot_interval_entries: options.snapshot_interval_entries,
    })
}
