//! What metadata makes of a process: partitions that it opens, leads, follows and deletes. Mirrors
//! `broker/src/partition/manager.rs`.

use std::sync::Arc;

use broker_core::metadata::{ReplicaChange, changes};
use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::RoleChange;
use broker_core::{BrokerId, TopicPartition};

use super::hosted::topic_settings;
use super::process::Process;
use crate::env::Env;
use crate::event::{Message, Peer, ProduceError};

impl Process {
    /// Applies what is committed and reaches this broker, several entries at a time.
    pub(super) fn follow_metadata(&mut self, env: &mut Env) {
        let Some(controller) = env.controller else {
            return;
        };
        let behind = self.applied + 1 < env.images.len() || !self.joined;
        if !behind
            || !env
                .network
                .reaches(env.now, Peer::Broker(controller), self.peer())
        {
            return;
        }
        let new = Arc::clone(env.image());
        self.applied = env.images.len() - 1;
        // Earlier metadata has the roles of the run before.
        let registered = self.membership.epoch;
        self.joined |= registered.is_some_and(|epoch| new.is_registered(self.me(), epoch));
        if !self.joined && !mutated(Mutation::LeadBeforeRegistration) {
            return;
        }
        let old = std::mem::replace(&mut self.image, Arc::clone(&new));
        if old.topics.is_empty() {
            self.storage
                .delete_strays(&new, self.me(), || env.next_id());
        }
        for change in changes(&old, &new, self.me()) {
            match change {
                ReplicaChange::Added { partition, .. } => {
                    self.open(env, partition);
                    self.assign(env, partition);
                }
                ReplicaChange::Changed { partition, .. } => self.assign(env, partition),
                ReplicaChange::Removed { partition } => {
                    self.leave(partition);
                    self.remove(env, partition);
                }
                ReplicaChange::TopicConfig { topic } => {
                    self.release_moved(env);
                    for hosted in self
                        .hosted
                        .values_mut()
                        .filter(|hosted| hosted.id.topic == topic)
                    {
                        if let Some((settings, config)) = topic_settings(&new, hosted.id) {
                            hosted.set_settings(settings);
                            hosted.log.set_config(config);
                        }
                    }
                }
            }
        }
    }

    /// Deletes the log of a replica that is no longer here.
    fn remove(&mut self, env: &mut Env, id: TopicPartition) {
        let Some(mut hosted) = self.hosted.remove(&id) else {
            return;
        };
        hosted.abandon();
        for parked in hosted.abandoned {
            let (request, result) = (parked.request, Err(ProduceError::NotLeader));
            let answer = Message::Produced { request, result };
            env.send(self.peer(), parked.client, answer);
        }
        env.note(self.peer(), || {
            format!("deletes {}-{}", hosted.topic, id.partition)
        });
        // First, so that a new log of the same name is never held against an old checkpoint.
        self.storage.write_checkpoints(self.hosted.values());
        self.storage.delete(&hosted.topic, id, env.next_id());
    }

    fn open(&mut self, env: &mut Env, id: TopicPartition) {
        match self.storage.open_partition(id, &self.image, self.me()) {
            Ok(hosted) => {
                self.hosted.insert(id, hosted);
            }
            Err(failed) => {
                self.offline = true;
                env.note(self.peer(), || {
                    format!("can't open the log of {id}: {failed}")
                });
            }
        }
    }

    fn assign(&mut self, env: &mut Env, id: TopicPartition) {
        let now = env.time(self.index);
        let (Some(hosted), Some(state)) = (self.hosted.get_mut(&id), self.image.partition(id))
        else {
            return;
        };
        if let Some((settings, _)) = topic_settings(&self.image, id) {
            hosted.set_settings(settings);
        }
        let (change, end) = (hosted.assign(now, state), hosted.log.end_offset());
        let name = format!("{}-{}", hosted.topic, id.partition);
        match change {
            RoleChange::Unchanged => return,
            RoleChange::ReplicasAdded => {}
            RoleChange::BecameLeader { .. } => {
                let (epoch, isr) = (state.leader_epoch, &state.isr);
                env.note(Peer::Broker(self.index), || {
                    format!("leads {name} in epoch {epoch} from {end}, ISR {isr:?}")
                });
                env.check
                    .became_leader(env.now, BrokerId(self.index as i32), hosted);
                self.leave(id);
            }
            RoleChange::BecameFollower => {
                let (epoch, leader) = (state.leader_epoch, state.leader);
                env.note(Peer::Broker(self.index), || match leader {
                    Some(leader) => {
                        format!("follows {leader} in {name}, epoch {epoch}, from {end}")
                    }
                    None => format!("{name} has no leader in epoch {epoch}"),
                });
                self.leave(id);
                if let Some(leader) = leader {
                    self.followed.insert(id, leader.0 as usize);
                    self.fetchers
                        .entry(leader.0 as usize)
                        .or_default()
                        .follow(id);
                }
            }
        }
        for session in self
            .sessions
            .values_mut()
            .filter(|session| session.names(id))
        {
            session.news.insert(id);
        }
    }

    fn leave(&mut self, id: TopicPartition) {
        if let Some(leader) = self.followed.remove(&id)
            && let Some(fetcher) = self.fetchers.get_mut(&leader)
        {
            fetcher.leave(id);
        }
    }
}
