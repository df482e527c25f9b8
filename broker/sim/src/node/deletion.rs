//! DeleteRecords. Mirrors `broker/src/partition/delete_records.rs` and `broker/src/api/delete_records.rs`.

use std::collections::BTreeMap;

use broker_core::mutation::{Mutation, mutated};
use broker_core::{BrokerId, LeaderEpoch, Offset, TopicPartition};

use super::hosted::Hosted;
use super::process::Process;
use crate::env::Env;
use crate::event::{DeleteError, Message, Peer};

/// Where logs start; of followers, as their pulls in this leader epoch told.
pub(super) type FollowerStarts = BTreeMap<BrokerId, Offset>;

/// A request that waits for the followers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deletion {
    client: Peer,
    request: u64,
    partition: TopicPartition,
    epoch: LeaderEpoch,
    wanted: Offset,
}

impl Process {
    pub(super) fn delete_records(
        &mut self,
        env: &mut Env,
        (client, request): (Peer, u64),
        partition: TopicPartition,
        before: Offset,
    ) {
        let hosted = self.hosted.get_mut(&partition);
        let deleted = hosted.map_or(Err(DeleteError::NotLeader), |hosted| {
            hosted.delete_records(before)?;
            Ok(hosted.replica.leader_epoch())
        });
        match deleted {
            Ok(epoch) => {
                let sessions = self.sessions.values_mut();
                for session in sessions.filter(|session| session.names(partition)) {
                    session.lazy.insert(partition);
                }
                self.storage.write_checkpoints(&mut self.hosted);
                self.deletions.push(Deletion {
                    client,
                    request,
                    partition,
                    epoch,
                    wanted: before,
                });
            }
            Err(error) => {
                let result = Err(error);
                let answer = Message::RecordsDeleted { request, result };
                env.send(self.peer(), client, answer);
            }
        }
    }

    /// Answers who waited for logs that start where they shall by now, or for a role that is over.
    pub(super) fn release_deletions(&mut self, env: &mut Env) {
        let (mut waiting, mut answers) = (Vec::new(), Vec::new());
        for deletion in std::mem::take(&mut self.deletions) {
            match self.log_starts(&deletion) {
                Ok(starts) => {
                    let low = starts.values().copied().min().unwrap_or_default();
                    if low < deletion.wanted {
                        waiting.push(deletion);
                        continue;
                    }
                    env.check.deletion_answered(deletion.partition, &starts);
                    answers.push((deletion, Ok(low)));
                }
                Err(error) => answers.push((deletion, Err(error))),
            }
        }
        self.deletions = waiting;
        for (deletion, result) in answers {
            let request = deletion.request;
            let answer = Message::RecordsDeleted { request, result };
            env.send(self.peer(), deletion.client, answer);
        }
    }

    /// Where the logs of the live replicas start, as is written down: -1 for those that have not pulled.
    fn log_starts(&self, deletion: &Deletion) -> Result<FollowerStarts, DeleteError> {
        let id = deletion.partition;
        let hosted = self.hosted.get(&id);
        let hosted = hosted
            .filter(|hosted| hosted.replica.is_leader())
            .filter(|hosted| hosted.replica.leader_epoch() == deletion.epoch)
            .ok_or(DeleteError::NotLeader)?;
        let state = self.known.partition(id).ok_or(DeleteError::NotLeader)?;
        let is_live = |id: &&BrokerId| {
            let broker = self.known.brokers.get(*id);
            **id != self.me() && broker.is_some_and(|broker| !broker.fenced)
        };
        let start = |id: &BrokerId| hosted.follower_starts.get(id).copied();
        let followers = state.replicas.iter().filter(is_live);
        let mut starts: FollowerStarts = followers
            .map(|id| (*id, start(id).unwrap_or(Offset(-1))))
            .collect();
        starts.insert(self.me(), hosted.checkpointed_start());
        Ok(starts)
    }
}

impl Hosted {
    fn delete_records(&mut self, before: Offset) -> Result<(), DeleteError> {
        if !self.replica.is_leader() {
            return Err(DeleteError::NotLeader);
        }
        let committed = before <= self.replica.high_watermark();
        if !committed && !mutated(Mutation::DeleteUncommitted) {
            return Err(DeleteError::OutOfRange);
        }
        self.delete_before(before).map_err(|_| DeleteError::Storage)
    }

    /// Where the log starts, as is written down.
    pub(super) fn checkpointed_start(&self) -> Offset {
        if mutated(Mutation::ForgetLogStart) {
            self.log.start_offset()
        } else {
            self.log.checkpointed_start()
        }
    }

    pub(super) fn log_start_is_due(&self) -> bool {
        self.log.start_offset() > self.checkpointed_start()
    }
}
