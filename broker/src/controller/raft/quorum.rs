//! This voter: starts openraft on its storage, proposes batches, says who leads.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{BasicNode, Config, Instant as _, RaftMetrics, ServerState, SnapshotPolicy};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::log_store::LogStore;
use super::network::Network;
use super::probation::Probation;
use super::service::RaftService;
use super::snapshot_store::SnapshotStore;
use super::state_machine::StateMachine;
use super::types::{CommittedLeaderId, MetadataBatch, Raft, TypeConfig};
use crate::controller::feed::Feed;
use crate::rpc::Token;

/// Entries that stay in the log although a snapshot has them, for followers a little behind.
const ENTRIES_KEPT_BEHIND_SNAPSHOT: u64 = 1000;
/// Entries for one follower in one request.
const APPEND_ENTRIES_MAX: u64 = 64;
/// Proposals and calls that wait for the quorum's task.
const REQUESTS_MAX: u64 = 4096;
const SNAPSHOT_TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Heartbeats in the time after which a leader is given up.
const HEARTBEATS_PER_TIMEOUT: u64 = 10;

/// How this voter takes part.
#[derive(Clone, Debug)]
pub(crate) struct QuorumOptions {
    pub(crate) node_id: u64,
    /// Where log, vote and snapshots live.
    pub(crate) directory: PathBuf,
    /// The initial voters with their addresses, this one included.
    pub(crate) voters: BTreeMap<u64, String>,
    pub(crate) token: Token,
    /// A voter that hears nothing from the leader for this long stands for election.
    pub(crate) election_timeout: Duration,
    /// Entries between two snapshots.
    pub(crate) snapshot_interval_entries: u64,
}

/// Why a voter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error("cannot open the metadata log: {0}")]
    Storage(#[from] io::Error),
    #[error(
        "the metadata log starts after a snapshot that is missing: restore the directory, or \
         remove all of it and let the voter catch up from the others"
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

/// Who leads the quorum, as far as this voter knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
}

impl Leadership {
    /// The leader as a broker.
    pub(crate) fn broker(&self) -> Option<BrokerId> {
        self.leader.and_then(broker)
    }

    /// Returns once `now` shows something else.
    pub(crate) async fn ended(self, now: &mut watch::Receiver<Self>) {
        // Without a sender the quorum has stopped, which ends every leadership.
        let _ = now.wait_for(|now| *now != self).await;
    }
}

fn broker(node_id: u64) -> Option<BrokerId> {
    i32::try_from(node_id).ok().map(BrokerId)
}

/// See the module's documentation.
pub(crate) struct Quorum {
    node_id: u64,
    pub(super) raft: Raft,
    service: RaftService,
    probation: Arc<Probation>,
    leadership: watch::Receiver<Leadership>,
    failure: watch::Receiver<Option<String>>,
}

impl Quorum {
    /// Opens the storage, joins the other voters, and forms the quorum when there is none yet.
    pub(crate) async fn start(
        options: QuorumOptions,
        feed: Arc<Feed>,
    ) -> Result<Self, QuorumError> {
        let config = Arc::new(raft_config(&options).validate()?);
        let directory = options.directory.clone();
        let (probation, log, snapshots) = tokio::task::spawn_blocking(move || {
            let probation = Probation::open(&directory)?;
            let (log, snapshots) = (
                LogStore::open(&directory)?,
                SnapshotStore::open(&directory)?,
            );
            Ok::<_, io::Error>((Arc::new(probation), log, snapshots))
        })
        .await
        .map_err(io::Error::other)??;
        if log.purged() > snapshots.newest() {
            return Err(QuorumError::SnapshotMissing);
        }
        let network = Network {
            voters: Arc::new(options.voters.clone()),
            token: options.token.clone(),
            append_timeout: options.election_timeout,
            probation: Arc::clone(&probation),
        };
        let machine = StateMachine::new(Arc::clone(&feed), Arc::new(snapshots));
        let raft = Raft::new(options.node_id, config, network, log, machine).await?;
        form(&raft, &options.voters).await?;
        let (leadership, failure) = observe(&raft, options.election_timeout);
        let service = RaftService::new(raft.clone(), feed, Arc::clone(&probation));
        let node_id = options.node_id;
        Ok(Self {
            node_id,
            raft,
            service,
            probation,
            leadership,
            failure,
        })
    }

    /// Who leads.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Set once this voter has stopped by an error; it does not come back without a restart.
    pub(crate) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.clone()
    }

    /// Current voters.
    pub(crate) fn voters(&self) -> Vec<BrokerId> {
        self.raft.voter_ids().filter_map(broker).collect()
    }

    /// The gRPC service for the other voters.
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
            leader: Some(self.node_id),
        };
        tokio::select! {
            biased;
            result = committed => match result {
                Ok(Ok(response)) => {
                    self.probation.end();
                    Ok(response.log_id.index)
                }
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotLeader),
                Ok(Err(_)) => Err(ProposeError::OutcomeUnknown),
                Err(_) => Err(ProposeError::Stopped),
            },
            () = leading.ended(&mut leadership) => Err(ProposeError::OutcomeUnknown),
        }
    }

    /// If this voter leads, asks the voter whose log is the longest to lead instead, and waits for
    /// the change no longer than an election would take.
    pub(crate) async fn hand_over(&self, limit: Duration) {
        let mut leadership = self.leadership();
        let leading = *leadership.borrow();
        if leading.leader != Some(self.node_id) {
            return;
        }
        let Some(successor) = self.successor() else {
            return;
        };
        if self.raft.trigger().transfer_leader(successor).await.is_ok() {
            tracing::info!(successor, "handing over the metadata quorum");
            // Too slow or not: the others elect somebody once this voter is gone.
            let _ = timeout(limit, leading.ended(&mut leadership)).await;
        }
    }

    fn successor(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.as_ref()?;
        let others = metrics
            .membership_config
            .voter_ids()
            .filter(|id| *id != self.node_id);
        others.max_by_key(|id| replication.get(id).copied().flatten())
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
        // A voter may come back with an empty disk; without this its leader would panic.
        allow_log_reversion: Some(true),
        max_payload_entries: APPEND_ENTRIES_MAX,
        api_channel_size: Some(REQUESTS_MAX),
        notification_channel_size: Some(REQUESTS_MAX),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_interval_entries),
        replication_lag_threshold: 2 * options.snapshot_interval_entries,
        max_in_snapshot_log_to_keep: ENTRIES_KEPT_BEHIND_SNAPSHOT
            .min(options.snapshot_interval_entries / 2),
        install_snapshot_timeout: SNAPSHOT_TRANSFER_TIMEOUT.as_millis() as u64,
        ..Config::default()
    }
}

/// Each initial voter writes the same first entry by itself, so none has to be reachable.
async fn form(raft: &Raft, voters: &BTreeMap<u64, String>) -> Result<(), QuorumError> {
    if raft.is_initialized().await? {
        return Ok(());
    }
    let members: BTreeMap<u64, BasicNode> = voters
        .iter()
        .map(|(id, address)| (*id, BasicNode::new(address)))
        .collect();
    match raft.initialize(members).await {
        // Another voter was faster and has replicated its entries here already.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(QuorumError::Stopped(error.to_string())),
    }
}

/// Follows openraft's metrics for as long as it runs. A leader that no majority has answered for
/// `lease` counts as none, although it does not know of another one yet.
fn observe(
    raft: &Raft,
    lease: Duration,
) -> (watch::Receiver<Leadership>, watch::Receiver<Option<String>>) {
    let (leadership, leadership_out) = watch::channel(Leadership::default());
    let (failure, failure_out) = watch::channel(None);
    let mut metrics = raft.metrics();
    tokio::spawn(async move {
        let mut check = interval(lease / 4);
        loop {
            let (now, stopped) = {
                let metrics = metrics.borrow_watched();
                (
                    believed_leadership(&metrics, lease),
                    metrics.running_state.clone().err(),
                )
            };
            leadership.send_if_modified(|known| std::mem::replace(known, now) != now);
            if let Some(error) = stopped {
                leadership.send_replace(Leadership {
                    leader: None,
                    ..now
                });
                if error != Fatal::Stopped {
                    failure.send_replace(Some(error.to_string()));
                }
                break;
            }
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { break },
                _ = check.tick() => {}
            }
        }
    });
    (leadership_out, failure_out)
}

fn believed_leadership(metrics: &RaftMetrics<TypeConfig>, lease: Duration) -> Leadership {
    let term = metrics.current_term;
    let is_alone = metrics.membership_config.voter_ids().count() == 1;
    let is_followed = || {
        metrics
            .last_quorum_acked
            .is_some_and(|acked| acked.into_inner().elapsed() < lease)
    };
    match metrics.current_leader {
        Some(leader) if leader == metrics.id => {
            let leads = metrics.state == ServerState::Leader && (is_alone || is_followed());
            Leadership {
                term,
                leader: leads.then_some(leader),
            }
        }
        leader => Leadership { term, leader },
    }
}
