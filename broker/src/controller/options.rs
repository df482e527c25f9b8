//! What the controller is started with.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::controller::{
    ConfigTable, Defaults, MoveRequest, PlacementRequest, RebalanceMove, RebalanceRequest,
};
use broker_core::lease::Lease;

use super::sizes::PartitionSizes;
use crate::rpc::{self, Credentials};

/// Everything [`super::Controller::start`] needs.
#[derive(Debug)]
pub struct ControllerOptions {
    /// `node.id`
    pub broker_id: BrokerId,
    /// Given to a new cluster by its first controller; a broker of another cluster is refused.
    pub cluster_id: String,
    /// Directory of the metadata log, `<log.dirs>/__cluster_metadata-0`.
    pub directory: PathBuf,
    /// `controller.quorum.voters`: gRPC addresses (`host:port`) of the initial voters by broker
    /// id. Only where there is no quorum yet; later its log says who votes.
    pub voters: BTreeMap<BrokerId, String>,
    /// Whether a quorum of the initial voters may be formed where none is found.
    pub may_form_quorum: bool,
    pub credentials: Credentials,
    pub timing: Timing,
    /// Held while the controller accepts this broker's heartbeats.
    pub lease: Arc<Lease>,
    /// Size of this broker's logs, for the controller to know.
    pub hosted_bytes: Arc<AtomicU64>,
    /// Bytes of the metadata log between two snapshots; more where the snapshots are larger.
    pub snapshot_interval_bytes: u64,
    pub policy: DecisionPolicy,
}

/// For answers on their way when a process is paused.
const LEASE_MARGIN: Duration = Duration::from_millis(100);

/// Time-outs and intervals.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// `controller.quorum.election.timeout.ms`: a voter that hears nothing from the quorum's
    /// leader for this long has stood for election.
    pub election_timeout: Duration,
    /// `broker.session.timeout.ms`: a broker whose open stream is silent for this long is fenced.
    pub session_timeout: Duration,
    /// `broker.heartbeat.interval.ms`
    pub heartbeat_interval: Duration,
    /// `klamm.broker.reconnect.grace.ms`: a broker whose stream is broken for this long is fenced.
    pub reconnect_grace: Duration,
    /// `leader.imbalance.check.interval.seconds`, `None` when `auto.leader.rebalance.enable` is
    /// false.
    pub leader_rebalance_interval: Option<Duration>,
}

impl Timing {
    /// How long a broker may lead without running: no longer than it takes the controller to fence a
    /// paused process.
    pub(crate) fn lease_duration(&self) -> Duration {
        let silent = self.session_timeout.saturating_sub(self.heartbeat_interval);
        let disconnected = rpc::KEEPALIVE_TIMEOUT + self.reconnect_grace;
        let soonest = silent.min(disconnected).saturating_sub(LEASE_MARGIN);
        soonest.max(self.session_timeout / 2)
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            election_timeout: Duration::from_millis(1000),
            session_timeout: Duration::from_millis(1500),
            heartbeat_interval: Duration::from_millis(250),
            reconnect_grace: Duration::from_millis(1000),
            leader_rebalance_interval: Some(Duration::from_secs(300)),
        }
    }
}

/// Default of [`ControllerOptions::snapshot_interval_bytes`].
pub const SNAPSHOT_INTERVAL_BYTES: u64 = 4 * 1024 * 1024;

/// Finds brokers for the replicas of new partitions, or says in words why it cannot.
pub type Place =
    Box<dyn Fn(&PlacementRequest<'_>) -> Result<Vec<Vec<BrokerId>>, String> + Send + Sync>;

/// Finds a broker for a replica that moves, or says in words why it cannot.
pub type ChooseBroker = Box<dyn Fn(&MoveRequest<'_>) -> Result<BrokerId, String> + Send + Sync>;

/// Says what has to move for every broker to have its share.
pub type PlanRebalance =
    Box<dyn Fn(&RebalanceRequest<'_>, &PartitionSizes) -> Vec<RebalanceMove> + Send + Sync>;

/// What the active controller decides by, besides the metadata.
pub struct DecisionPolicy {
    pub defaults: Defaults,
    pub place: Place,
    pub choose_broker: ChooseBroker,
    pub plan_rebalance: PlanRebalance,
    /// `klamm.replica.replacement.delay.ms`: replicas on brokers that were away for so long are
    /// re-created on others; `None` when they never are.
    pub replacement_delay: Option<Duration>,
    pub config_table: Box<dyn ConfigTable + Send + Sync>,
}

impl fmt::Debug for DecisionPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecisionPolicy")
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}
