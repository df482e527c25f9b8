//! The first entry of a cluster's metadata log: the initial voters with their directories.
//!
//! The initial voter with the lowest id writes it, once every initial voter has said that its
//! directory is new and which id that has. The others wait to be asked for their votes.
//!
//! Invariant: where one initial voter has votes or entries, or cannot be asked, no quorum is formed.
//! So voters that lost their disks, even a majority of them, do not agree on a new cluster beside
//! the one that remains.

use std::collections::BTreeMap;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::quorum::{DirectoryId, VoterKey};
use futures::future::try_join_all;
use klamm_proto::v1::IdentifyRequest;
use klamm_proto::v1::raft_client::RaftClient;
use openraft::BasicNode;
use openraft::errors::{InitializeError, RaftError};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::quorum::QuorumError;
use super::types::{NodeId, Raft};
use crate::rpc::{self, Credentials};

const RETRY_INTERVAL: Duration = Duration::from_millis(200);
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct Formation {
    pub(crate) raft: Raft,
    pub(crate) me: VoterKey,
    pub(crate) cluster_id: String,
    /// Addresses of the initial voters.
    pub(crate) voters: BTreeMap<BrokerId, String>,
    pub(crate) credentials: Credentials,
}

/// Why a voter's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum IdentifyError {
    #[error("voter {0} is part of a quorum already")]
    Formed(BrokerId),
    #[error("voter {id} cannot be asked: {reason}")]
    Unreachable { id: BrokerId, reason: String },
    #[error("voter {id} refuses: {reason}")]
    Refused { id: BrokerId, reason: String },
}

impl Formation {
    /// Forms the quorum, at once when this broker is its only voter, else as soon as all of them
    /// have answered.
    pub(crate) async fn begin(self) -> Result<(), QuorumError> {
        let first = self.voters.keys().next();
        if first != Some(&self.me.id) || self.raft.is_initialized().await? {
            return Ok(());
        }
        if self.voters.len() == 1 {
            return self.write(Vec::new()).await;
        }
        tokio::spawn(self.form_with_others());
        Ok(())
    }

    async fn form_with_others(self) {
        let mut warned = String::new();
        loop {
            let others = self.voters.iter().filter(|(id, _)| **id != self.me.id);
            let asked = others.map(|(id, address)| self.identify(*id, address));
            match try_join_all(asked).await {
                Ok(others) => {
                    if let Err(error) = self.write(others).await {
                        tracing::error!(%error, "no quorum was formed");
                    }
                    return;
                }
                Err(error @ IdentifyError::Formed(_)) => {
                    tracing::warn!(
                        reason = %error, directory = %self.me.directory,
                        "this broker's metadata directory is new, and it does not vote: if its disk \
                         was lost, remove the voter and add it again"
                    );
                    return;
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != warned {
                        tracing::info!(reason, "waiting for the initial voters");
                        warned = reason;
                    }
                }
            }
            // Another voter's leader may have found this one meanwhile.
            if !matches!(self.raft.is_initialized().await, Ok(false)) {
                return;
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn identify(&self, id: BrokerId, address: &str) -> Result<VoterKey, IdentifyError> {
        let unreachable = |reason: String| IdentifyError::Unreachable { id, reason };
        let connection = rpc::connect(address, &self.credentials)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut client = RaftClient::new(connection);
        let request = IdentifyRequest {
            cluster_id: self.cluster_id.clone(),
        };
        let answer = timeout(IDENTIFY_TIMEOUT, client.identify(request)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
            .map_err(|status| match status.code() {
                Code::FailedPrecondition => IdentifyError::Refused {
                    id,
                    reason: status.message().to_owned(),
                },
                _ => unreachable(status.message().to_owned()),
            })?
            .into_inner();
        let refused = |reason: &str| IdentifyError::Refused {
            id,
            reason: reason.to_owned(),
        };
        if answer.broker_id != id.0 {
            return Err(refused("another broker answers at its address"));
        }
        if answer.formed {
            return Err(IdentifyError::Formed(id));
        }
        let directory = <[u8; 16]>::try_from(&*answer.directory_id)
            .map_err(|_| refused("its directory id is malformed"))?;
        Ok(VoterKey {
            id,
            directory: DirectoryId(directory),
        })
    }

    async fn write(&self, others: Vec<VoterKey>) -> Result<(), QuorumError> {
        let voters = others.into_iter().chain([self.me]);
        let members: BTreeMap<NodeId, BasicNode> = voters
            .map(|voter| (voter.into(), BasicNode::new(&self.voters[&voter.id])))
            .collect();
        match self.raft.initialize(members).await {
            // The leader of a quorum was faster.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(QuorumError::Stopped(error.to_string())),
        }
    }
}
