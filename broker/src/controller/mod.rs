//! Cluster metadata and the controller that changes it (KIP-500).
//!
//! Every broker has a [`Controller`]. Voters agree on the metadata log ([`raft`]); the one that
//! leads them is the active controller and decides commands ([`task`], [`broker_core::liveness`]); the other
//! brokers follow committed records ([`follow`]). All brokers register and heartbeat alike
//! ([`registration`]), and any of them can be made a voter ([`voters`]).
//!
//! Everything here runs on the Tokio runtime on which [`Controller::start`] was called: give it one
//! of its own, so that a stalled data disk does not cause elections. The handle may be used from
//! any runtime.

mod addresses;
mod confirmations;
mod error;
mod evacuations;
mod feed;
mod follow;
mod leases;
mod options;
mod peers;
mod probes;
mod raft;
mod rebalancing;
mod registration;
mod service;
mod sessions;
mod sizes;
mod submit;
mod task;
#[cfg(test)]
mod tests;
mod view;
mod voters;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::controller::{Command, Defaults, RegisterBroker, Response};
use broker_core::lease::Lease;
use broker_core::metadata::{self, Counts, Image};
use broker_core::{BrokerEpoch, BrokerId};
use klamm_proto::v1::QuorumDescription;
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::controller_server::ControllerServer;
use klamm_proto::v1::raft_server::RaftServer;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;

pub use error::SubmitError;
pub use evacuations::EvacuationStatus;
pub use options::{
    ChooseBroker, ControllerOptions, DecisionPolicy, Place, PlanRebalance, SNAPSHOT_INTERVAL_BYTES,
    Timing,
};
pub use raft::{IdentityError, QuorumError, RaftService};
pub use rebalancing::RebalanceStatus;
pub use service::ControllerService;
pub use sizes::PartitionSizes;
pub use view::{ControllerView, ViewError};
pub use voters::ChangeVotersError;

use crate::clock;
use crate::previous_run::Kept;
use crate::rpc::{Credentials, Guard, MESSAGE_BYTES_MAX};
use addresses::{Addresses, Voters};
use broker_core::liveness::LivenessConfig;
use evacuations::Evacuations;
use feed::Feed;
pub(crate) use feed::Position;
use follow::Following;
use peers::Peers;
use raft::{Quorum, QuorumOptions};
use rebalancing::Rebalancing;
use registration::{Membership, Registration};
use sessions::Sessions;
use sizes::Sizes;
use submit::{MAILBOX_COMMANDS_MAX, Submitter};
use task::ControllerTask;
use voters::VoterAdmin;

/// How long [`Controller::submit`] looks for an active controller and waits for its answer.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(15);

/// This broker's part in the metadata quorum and its view of the cluster.
pub struct Controller {
    me: BrokerId,
    cluster_id: Arc<str>,
    credentials: Credentials,
    timing: Timing,
    addresses: Arc<Addresses>,
    defaults: Defaults,
    feed: Arc<Feed>,
    peers: Arc<Peers>,
    sessions: Arc<Sessions>,
    evacuations: Arc<Evacuations>,
    rebalancing: Arc<Rebalancing>,
    submitter: Submitter,
    voters: VoterAdmin,
    quorum: Arc<Quorum>,
    membership: Arc<Membership>,
    lease: Arc<Lease>,
    hosted_bytes: Arc<AtomicU64>,
    unclean_elections: Arc<AtomicU64>,
    runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl Controller {
    /// Opens the metadata log and joins the quorum, or follows it when this broker is no member.
    /// Other brokers need not be reachable. Mount the services before peers can succeed.
    ///
    /// # Errors
    /// When the directory cannot be used or the options contradict each other.
    pub async fn start(options: ControllerOptions) -> Result<Arc<Self>, QuorumError> {
        let feed = Arc::new(Feed::new());
        let addresses = Arc::new(known_addresses(&options, &feed).await?);
        let quorum = quorum_options(&options, Arc::clone(&addresses));
        let quorum = Arc::new(Quorum::start(quorum, Arc::clone(&feed)).await?);
        let peers = Arc::new(Peers::new(
            options.broker_id,
            Arc::clone(&addresses),
            options.credentials.clone(),
            quorum.leadership(),
        ));
        let evacuations = Arc::<Evacuations>::default();
        let rebalancing = Arc::new(Rebalancing::new(Sizes::new(Arc::clone(&peers))));
        let sessions = Arc::new(Sessions::new(LivenessConfig {
            session_timeout: options.timing.session_timeout,
            reconnect_grace: options.timing.reconnect_grace,
            voters: options.voters.keys().copied().collect(),
        }));
        let (mailbox, receiver) = mpsc::channel(MAILBOX_COMMANDS_MAX);
        let submitter = Submitter::new(options.broker_id, Arc::clone(&peers), mailbox);
        let defaults = options.policy.defaults;
        let unclean_elections = Arc::default();
        let task = ControllerTask {
            me: options.broker_id,
            cluster_id: options.cluster_id.clone(),
            quorum: Arc::clone(&quorum),
            feed: Arc::clone(&feed),
            sessions: Arc::clone(&sessions),
            addresses: Arc::clone(&addresses),
            evacuations: Arc::clone(&evacuations),
            rebalancing: Arc::clone(&rebalancing),
            policy: options.policy,
            leader_rebalance_interval: options.timing.leader_rebalance_interval,
            mailbox: receiver,
            unclean_elections: Arc::clone(&unclean_elections),
        };
        let following = Following {
            cluster_id: options.cluster_id.clone(),
            quorum: Arc::clone(&quorum),
            peers: Arc::clone(&peers),
            feed: Arc::clone(&feed),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        tasks.spawn(following.run());
        tasks.spawn(Arc::clone(&addresses).keep());
        tasks.spawn(learn_voters(Arc::clone(&quorum), Arc::clone(&addresses)));
        Ok(Arc::new(Self {
            me: options.broker_id,
            cluster_id: options.cluster_id.into(),
            credentials: options.credentials,
            timing: options.timing,
            addresses,
            defaults,
            voters: VoterAdmin {
                me: options.broker_id,
                quorum: Arc::clone(&quorum),
                feed: Arc::clone(&feed),
                peers: Arc::clone(&peers),
                sessions: Arc::clone(&sessions),
                submitter: submitter.clone(),
            },
            submitter,
            feed,
            peers,
            sessions,
            evacuations,
            rebalancing,
            quorum,
            membership: Arc::default(),
            lease: options.lease,
            hosted_bytes: options.hosted_bytes,
            unclean_elections,
            runtime: Handle::current(),
            tasks: Mutex::new(tasks),
        }))
    }

    /// Registers this broker and keeps it alive in the eyes of the controller from now on. It is
    /// unfenced, and may lead partitions, soon after: call this once it can. `command` holds the
    /// advertised addresses and the epoch of the last clean stop. `keep` writes every registration
    /// down, on a thread that may block, before the controller hears that this broker lives.
    pub fn join(
        &self,
        command: RegisterBroker,
        keep: impl Fn(BrokerEpoch) -> Kept + Send + Sync + 'static,
    ) {
        let directory = self.quorum.me().directory;
        let registration = metadata::RegisterBroker {
            metadata_directory_id: Some(directory.into()),
            ..command.registration
        };
        let registration = Registration {
            me: self.me,
            command: RegisterBroker {
                registration,
                ..command
            },
            submitter: self.submitter.clone(),
            peers: Arc::clone(&self.peers),
            addresses: Arc::clone(&self.addresses),
            membership: Arc::clone(&self.membership),
            hosted_bytes: Arc::clone(&self.hosted_bytes),
            keep: Arc::new(keep),
            heartbeat_interval: self.timing.heartbeat_interval,
            lease: Arc::clone(&self.lease),
            lease_duration: self.timing.lease_duration(),
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

    /// The newest metadata with its offset. Changes with every batch, whether it changes the metadata
    /// or not.
    #[must_use]
    pub(crate) fn positions(&self) -> watch::Receiver<Position> {
        self.feed.positions()
    }

    /// Tells that partitions and groups here are as the metadata up to `offset` says. The active
    /// controller lets this broker lead, after it was fenced, once that is in there.
    pub(crate) fn metadata_applied(&self, offset: Option<u64>) {
        self.membership.applied.send_replace(offset);
    }

    /// Whether what this broker leads by then nobody else led before the call: the active controller
    /// has answered a heartbeat that was sent after it, and this broker has applied the metadata of that
    /// answer. `false` when that takes longer than `limit`.
    pub async fn confirm_leadership(&self, limit: Duration) -> bool {
        self.lease.is_confirmed(clock::now())
            && timeout(limit, self.membership.confirmations.next())
                .await
                .is_ok()
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

    /// The current voters, as far as this broker knows them.
    #[must_use]
    pub fn voters(&self) -> Vec<BrokerId> {
        self.addresses.voters()
    }

    /// Has the quorum's members changed, wherever the active controller runs, and returns once that
    /// is done.
    ///
    /// # Errors
    /// [`ChangeVotersError::Refused`] without effect, else as [`Controller::submit`].
    pub async fn change_voters(&self, change: Change) -> Result<(), ChangeVotersError> {
        self.voters.change(change, SUBMIT_TIMEOUT).await
    }

    /// The quorum's state, from the active controller.
    ///
    /// # Errors
    /// As [`Controller::submit`].
    pub async fn describe_quorum(&self) -> Result<QuorumDescription, SubmitError> {
        self.voters.describe(SUBMIT_TIMEOUT).await
    }

    /// Term of the quorum, raised by every election; 0 on a broker that was never a member.
    #[must_use]
    pub fn controller_epoch(&self) -> u64 {
        self.quorum.leadership().borrow().term
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

    /// Whether `image` has this broker's current registration.
    #[must_use]
    pub fn is_registered_in(&self, image: &Image) -> bool {
        self.broker_epoch()
            .is_some_and(|epoch| image.is_registered(self.me, epoch))
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
        self.quorum.hand_over().await;
        moved
    }

    /// Returns with the reason once this broker's metadata log has failed and it must be restarted.
    pub async fn failed(&self) -> String {
        if let Ok(reason) = self.quorum.failure().wait_for(Option::is_some).await {
            return reason.clone().unwrap_or_default();
        }
        std::future::pending().await
    }

    /// The service for the members of the quorum, guarded by the token.
    #[must_use]
    pub fn raft_server(&self) -> InterceptedService<RaftServer<RaftService>, Guard> {
        let server = RaftServer::new(self.quorum.service())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(server, self.credentials.guard())
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
            quorum: Arc::clone(&self.quorum),
            voters: self.voters.clone(),
            cluster_id: Arc::clone(&self.cluster_id),
        })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
        InterceptedService::new(server, self.credentials.guard())
    }

    /// Leaves: the heartbeat stream is closed and the metadata log with it. The services answer
    /// with errors from now on.
    pub async fn shutdown(&self) {
        self.tasks.lock().abort_all();
        self.sessions.end();
        self.quorum.shutdown().await;
    }
}

/// Members of the quorum hear of its voters first.
async fn learn_voters(quorum: Arc<Quorum>, addresses: Arc<Addresses>) {
    let mut members = quorum.members();
    loop {
        quorum.present().await;
        let voters = members.borrow_and_update().voters.clone();
        let voters = voters.into_iter().map(|(voter, address)| {
            let address = addresses.address(voter.id).unwrap_or(address);
            (voter.id, address)
        });
        addresses.learn(voters.collect());
        if members.changed().await.is_err() {
            return;
        }
    }
}

async fn known_addresses(
    options: &ControllerOptions,
    feed: &Arc<Feed>,
) -> Result<Addresses, QuorumError> {
    let (configured, directory) = (options.voters.clone(), options.directory.clone());
    let feed = Arc::clone(feed);
    let open = move || Addresses::open(configured, feed, &directory);
    let opened = tokio::task::spawn_blocking(open).await;
    Ok(opened.map_err(std::io::Error::other)?)
}

fn quorum_options(options: &ControllerOptions, addresses: Arc<Addresses>) -> QuorumOptions {
    QuorumOptions {
        broker_id: options.broker_id,
        cluster_id: options.cluster_id.clone(),
        directory: options.directory.clone(),
        initial_voters: if options.may_form_quorum {
            options.voters.clone()
        } else {
            Voters::new()
        },
        addresses,
        credentials: options.credentials.clone(),
        election_timeout: options.timing.election_timeout,
        snapshot_interval_bytes: options.snapshot_interval_bytes,
    }
}
