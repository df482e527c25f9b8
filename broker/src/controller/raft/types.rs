//! The concrete types that the metadata quorum runs openraft with.
//!
//! A term has at most one leader, so a log entry is identified by (term, index); the index is also
//! the metadata offset and the offset of the entry's batch in `__cluster_metadata-0`.

use std::fmt;

use broker_core::BrokerId;
use broker_core::quorum::{DirectoryId, VoterKey};
use bytes::Bytes;
use openraft::impls::leader_id_std;
use serde::{Deserialize, Serialize};

use super::state_machine::StateMachine;

openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = MetadataBatch,
        R = (),
        NodeId = NodeId,
        Node = openraft::BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;
pub(crate) type Entry = <TypeConfig as openraft::RaftTypeConfig>::Entry;
pub(crate) type Vote = <TypeConfig as openraft::RaftTypeConfig>::Vote;
pub(crate) type CommittedLeaderId = openraft::vote::leader_id_std::CommittedLeaderId<u64>;
pub(crate) type LogId = openraft::LogId<CommittedLeaderId>;
pub(crate) type StoredMembership =
    openraft::StoredMembership<CommittedLeaderId, NodeId, openraft::BasicNode>;
pub(crate) type SnapshotMeta =
    openraft::SnapshotMeta<CommittedLeaderId, NodeId, openraft::BasicNode>;
pub(crate) type Snapshot =
    openraft::Snapshot<CommittedLeaderId, NodeId, openraft::BasicNode, Bytes>;

pub(crate) type Membership = openraft::Membership<NodeId, openraft::BasicNode>;

/// A [`VoterKey`] for openraft: ids of brokers are used again after a disk was lost, ids of logs are
/// not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct NodeId {
    id: i32,
    directory: [u8; 16],
}

impl NodeId {
    pub(crate) fn broker(self) -> BrokerId {
        BrokerId(self.id)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, DirectoryId(self.directory))
    }
}

impl From<VoterKey> for NodeId {
    fn from(voter: VoterKey) -> Self {
        Self {
            id: voter.id.0,
            directory: voter.directory.0,
        }
    }
}

impl From<NodeId> for VoterKey {
    fn from(node: NodeId) -> Self {
        Self {
            id: node.broker(),
            directory: DirectoryId(node.directory),
        }
    }
}

/// For openraft's tests of the storage.
#[cfg(test)]
impl From<u64> for NodeId {
    fn from(id: u64) -> Self {
        Self {
            id: i32::try_from(id).unwrap(),
            directory: [0; 16],
        }
    }
}

/// Metadata records that take effect together: prost encodings, opaque to the quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MetadataBatch {
    pub(crate) records: Vec<Bytes>,
}

impl fmt::Display for MetadataBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.records.len())
    }
}
