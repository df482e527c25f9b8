//! This broker's part in the quorum: starts openraft on its storage, proposes batches.
//!
//! Every broker has one, also where it is no member yet: then it waits to be made one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::quorum::VoterKey;
use bytes::Bytes;
use openraft::errors::{ClientWriteError, Fatal};
use openraft::impls::ProgressResponder;
use openraft::{Config, SnapshotPolicy};
use tokio::sync::{Mutex, mpsc, watch};

use super::formation::Formation;
use super::identity::{self, IdentityError};
use super::log_store::LogStore;
use super::network::Network;
use super::observe::{Leadership, Members, Moments, Observed, observe};
use super::service::RaftService;
use super::snapshot_store::SnapshotStore;
use super::state_machine::StateMachine;
use super::types::{CommittedLeaderId, MetadataBatch, Raft, TypeConfig};
use crate::controller::addresses::{Addresses, Voters};
use crate::controller::feed::Feed;
use crate::rpc::Credentials;

/// Entries that stay in the log although a snapshot has them, for followers a little behind.
const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 1000;
/// Few entries are larger: those that are kept are little beside those of an interval.
const LARGE_ENTRY_BYTES: u64 = 1024;
/// Entries for one follower in one request.
const APPEND_ENTRIES_MAX: u64 = 64;
/// Proposals and calls that wait for the quorum's task.
const REQUESTS_MAX: u64 = 4096;
const SNAPSHOT_TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Heartbeats in the time after which a leader is given up.
const HEARTBEATS_PER_TIMEOUT: u64 = 10;

/// How this voter takes part.
pub(crate) struct QuorumOptions {
    pub(crate) broker_id: BrokerId,
    pub(crate) cluster_id: String,
    /// Where log, vote and snapshots live.
    pub(crate) directory: PathBuf,
    /// Forms a quorum of them where there is none; empty: waits to be made a member of one.
    pub(crate) initial_voters: Voters,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) credentials: Credentials,
    /// A voter that hears nothing from the leader for this long stands for election.
    pub(crate) election_timeout: Duration,
    /// Bytes of the log between two snapshots, at least.
    pub(crate) snapshot_interval_bytes: u64,
}

/// Why the quorum's part cannot start.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error("cannot open the metadata log: {0}")]
    Storage(#[from] io::Error),
    #[error(
        "the metadata in {} is damaged, this broker must not vote with what is left: {reason}; remove \
         the whole directory, and the broker from the quorum if it is a voter, and add it anew",
        directory.display()
    )]
    Damaged { directory: PathBuf, reason: String },
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(
        "the metadata log starts after a snapshot that is missing: restore the directory, or \
         remove all of it, and the broker from the quorum if it is a voter, and add it anew"
    )]
    SnapshotMissing,
    #[error("the quorum's settings contradict each other: {0}")]
    Config(#[from] openraft::ConfigError),
    #[error("the metadata quorum has stopped: {0}")]
    Stopped(String),
}

/// Why a batch was not (or not known to be) committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProposeError {
    /// The batch is in no log.
    #[error("this voter does not lead in that term")]
    NotLeader,
    /// The batch may or may not be committed by another leader.
    #[error("leadership was lost before the batch was committed")]
    OutcomeUnknown,
    #[error("the metadata quorum has stopped")]
    Stopped,
}

/// See the module's documentation.
pub(crate) struct Quorum {
    me: VoterKey,
    raft: Raft,
    service: RaftService,
    moments: Arc<Moments>,
    observed: Observed,
    election_timeout: Duration,
    /// Held during a change of the members.
    pub(super) changing: Mutex<()>,
}

impl Quorum {
    /// Opens the storage, waits for other members to call, and forms the quorum of the initial
    /// voters when there is none yet.
    pub(crate) async fn start(
        options: QuorumOptions,
        feed: Arc<Feed>,
    ) -> Result<Self, QuorumError> {
        let config = Arc::new(raft_config(&options).validate()?);
        let (directory, cluster_id) = (options.directory.clone(), options.cluster_id.clone());
        let id = options.broker_id;
        let (me, log, snapshots) = tokio::task::spawn_blocking(move || {
            let me = identity::open(&directory, &cluster_id, id)?;
            let opened = LogStore::open(&directory)
                .and_then(|log| Ok((log, SnapshotStore::open(&directory)?)));
            let (log, snapshots) = opened.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => QuorumError::Damaged {
                    directory,
                    reason: error.to_string(),
                },
                _ => error.into(),
            })?;
            Ok::<_, QuorumError>((me, log, snapshots))
        })
        .await
        .map_err(io::Error::other)??;
        if log.purged() > snapshots.newest() {
            return Err(QuorumError::SnapshotMissing);
        }
        let network = Network {
            cluster_id: options.cluster_id.clone().into(),
            addresses: options.addresses,
            credentials: options.credentials.clone(),
            append_timeout: options.election_timeout,
        };
        let (snapshot_due, due) = mpsc::channel(1);
        let interval_bytes = options.snapshot_interval_bytes;
        let machine = StateMachine::new(feed, Arc::new(snapshots), interval_bytes, snapshot_due);
        let raft = Raft::new(me.into(), config, network, log, machine).await?;
        tokio::spawn(take_snapshots(raft.clone(), due));
        let formation = Formation {
            raft: raft.clone(),
            me,
            cluster_id: options.cluster_id.clone(),
            voters: options.initial_voters,
            credentials: options.credentials,
        };
        formation.begin().await?;
        let moments = Arc::<Moments>::default();
        let observed = observe(&raft, options.election_timeout, Arc::clone(&moments));
        Ok(Self {
            me,
            service: RaftService::new(
                raft.clone(),
                me,
                options.cluster_id.into(),
                Arc::clone(&moments),
            ),
            raft,
            moments,
            observed,
            election_timeout: options.election_timeout,
            changing: Mutex::new(()),
        })
    }

    /// Who leads.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.observed.leadership.clone()
    }

    /// Who belongs to the quorum.
    pub(crate) fn members(&self) -> watch::Receiver<Members> {
        self.observed.members.clone()
    }

    /// Who this broker is in the quorum, if it is a member.
    pub(crate) fn me(&self) -> VoterKey {
        self.me
    }

    /// Whether this broker is a member that hears of commits.
    pub(crate) fn takes_part(&self) -> bool {
        self.observed.members.borrow().contains(&self.me)
            && self.observed.leadership.borrow().leader.is_some()
    }

    /// Set once this voter has stopped by an error; it does not come back without a restart.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.observed.failure.clone()
    }

    /// Returns once this broker takes part.
    pub(crate) async fn present(&self) {
        self.until(true).await;
    }

    /// Returns once this broker does not take part.
    pub(crate) async fn absent(&self) {
        self.until(false).await;
    }

    async fn until(&self, takes_part: bool) {
        let (mut leadership, mut members) = (self.leadership(), self.members());
        loop {
            leadership.mark_unchanged();
            members.mark_unchanged();
            if self.takes_part() == takes_part {
                return;
            }
            let changed = tokio::select! {
                changed = leadership.changed() => changed,
                changed = members.changed() => changed,
            };
            if changed.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn moments(&self) -> &Moments {
        &self.moments
    }

    pub(super) fn election_timeout(&self) -> Duration {
        self.election_timeout
    }

    /// The gRPC service for the other members.
    pub(crate) fn service(&self) -> RaftService {
        self.service.clone()
    }

    /// Commits `records` as one batch if this voter leads in `term`, and returns its offset once
    /// the image with it is published. Ends early when leadership is lost.
    pub(crate) async fn propose(
        &self,
        term: u64,
        records: Vec<Bytes>,
    ) -> Result<u64, ProposeError> {
        let (responder, committed) = ProgressResponder::complete_only();
        self.raft
            .write(MetadataBatch { records })
            .with_leader(CommittedLeaderId::new(term))
            .responder(responder)
            .await
            .map_err(|_| ProposeError::Stopped)?;
        let mut leadership = self.leadership();
        let leading = Leadership {
            term,
            leader: Some(self.me),
        };
        tokio::select! {
            biased;
            result = committed => match result {
                Ok(Ok(response)) => Ok(response.log_id.index),
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
                Ok(Err(_)) => Err(ProposeError::OutcomeUnknown),
                Err(_) => Err(ProposeError::Stopped),
            },
            () = leading.ended(&mut leadership) => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// If this voter leads, asks the voter whose log is the longest to lead instead, and waits for
    /// the change.
    pub(crate) async fn hand_over(&self) {
        if self.leadership().borrow().leader != Some(self.me) {
            return;
        }
        // Where nobody can or does: the others elect somebody once this voter is gone.
        if let Ok(successor) = self.view().successor()
            && let Err(error) = self.transfer(successor).await
        {
            tracing::info!(%error, "the metadata quorum was not handed over");
        }
    }

    /// Stops taking part. Files are complete and can be opened again afterwards.
    pub(crate) async fn shutdown(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the metadata quorum did not stop cleanly");
        }
    }
}

impl From<Fatal<TypeConfig>> for QuorumError {
    fn from(error: Fatal<TypeConfig>) -> Self {
        Self::Stopped(error.to_string())
    }
}

/// Has a snapshot taken for every message; ends with the state machine.
async fn take_snapshots(raft: Raft, mut due: mpsc::Receiver<()>) {
    while due.recv().await.is_some() {
        if let Err(error) = raft.trigger().snapshot().await {
            tracing::debug!(%error, "no snapshot of the metadata is taken any more");
            return;
        }
    }
}

/// A voter waits half of the timeout before it listens to candidates (the leader's lease), then
/// stands for election itself at a random moment in the other half.
fn raft_config(options: &QuorumOptions) -> Config {
    let timeout_ms = u64::try_from(options.election_timeout.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "klamm".to_owned(),
        heartbeat_interval: timeout_ms / HEARTBEATS_PER_TIMEOUT,
        election_timeout_min: timeout_ms / 4,
        election_timeout_max: timeout_ms / 2,
        enable_pre_vote: Some(true),
        // The image lives in memory: a restarted leader must not serve before it is rebuilt.
        enable_leader_restore: Some(false),
        // A member whose log lost entries must not stop the leader.
        allow_log_reversion: Some(true),
        max_payload_entries: APPEND_ENTRIES_MAX,
        api_channel_size: Some(REQUESTS_MAX),
        notification_channel_size: Some(REQUESTS_MAX),
        // The state machine knows how large entries are.
        snapshot_policy: SnapshotPolicy::Never,
        // Whatever the log still has is cheaper than a snapshot, which is no smaller.
        replication_lag_threshold: u64::MAX,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT_BEHIND_SNAPSHOT
            .min(options.snapshot_interval_bytes / LARGE_ENTRY_BYTES),
        install_snapshot_timeout: SNAPSHOT_TRANSFER_TIMEOUT.as_millis() as u64,
        ..Config::default()
    }
}
