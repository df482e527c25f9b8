//! What metadata makes of a process: partitions that it opens, leads, follows and deletes. Mirrors
//! `broker/src/partition/manager.rs`.

use std::sync::Arc;

use broker_core::metadata::{Image, ReplicaChange, changes};
use broker_core::mutation::{Mutation, mutated};
use broker_core::partition::RoleChange;
use broker_core::{BrokerId, Offset, TopicPartition};

use super::hosted::topic_settings;
use super::process::Process;
use crate::env::Env;
use crate::event::{BrokerTimer, Message, Peer, ProduceError};
use crate::trace::Micros;

/// Of changes of the metadata, those whose application waits for the disk.
const SLOW_APPLY_PER_MILLE: u64 = 30;
const SLOW_APPLY_MAX: Micros = 600_000;

impl Process {
    /// Takes over what is committed and reaches this broker, several entries at a time.
    pub(super) fn follow_metadata(&mut self, env: &mut Env) {
        let Some(controller) = env.controller else {
            return;
        };
        let from = Peer::Broker(controller);
        if env.network.reaches(env.now, from, self.peer()) {
            self.known = Arc::clone(env.image());
            self.known_offset = env.images.len() - 1;
        }
        self.begin_apply(env);
    }

    fn begin_apply(&mut self, env: &mut Env) {
        let behind = self.applied < self.known_offset || !self.joined;
        if !behind || self.applying.is_some() {
            return;
        }
        // Earlier metadata has the roles of the run before.
        let registered = self.membership.epoch;
        self.joined |= registered.is_some_and(|epoch| self.known.is_registered(self.me(), epoch));
        if !self.joined && !mutated(Mutation::LeadBeforeRegistration) {
            return;
        }
        self.applying = Some((self.known_offset, Arc::clone(&self.known)));
        if env.random.chance(SLOW_APPLY_PER_MILLE) {
            let lasts = env.random.range(1_000, SLOW_APPLY_MAX);
            env.timer(self.index, lasts, BrokerTimer::Applied);
        } else {
            self.end_apply(env);
        }
    }

    pub(super) fn end_apply(&mut self, env: &mut Env) {
        if let Some((offset, image)) = self.applying.take() {
            self.apply(env, &image);
            self.applied = offset;
            if self.applied < self.known_offset {
                self.begin_apply(env);
            }
        }
    }

    fn apply(&mut self, env: &mut Env, new: &Arc<Image>) {
        // What the metadata before has brought about, leaders' high watermarks above all.
        self.release_moved(env);
        let old = std::mem::replace(&mut self.image, Arc::clone(new));
        if old.topics.is_empty() {
            let strays = self.storage.delete_strays(new, self.me(), || env.next_id());
            for id in strays {
                env.check.log_starts_over(self.me(), id, Offset(0));
            }
        }
        for change in changes(&old, new, self.me()) {
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
                        if let Some((settings, config)) = topic_settings(new, hosted.id) {
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
        env.check.log_starts_over(self.me(), id, Offset(0));
        env.note(self.peer(), || {
            format!("deletes {}-{}", hosted.topic, id.partition)
        });
        // First, so that a new log of the same name is never held against an old checkpoint.
        self.storage.write_checkpoints(&mut self.hosted);
        self.storage.delete(&hosted.topic, id, env.next_id());
    }

    fn open(&mut self, env: &mut Env, id: TopicPartition) {
        let unique = env.next_id();
        match self
            .storage
            .open_partition(id, &self.image, self.me(), unique)
        {
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
            RoleChange::BecameLeader { missing } => {
                let (epoch, isr) = (state.leader_epoch, &state.isr);
                env.note(Peer::Broker(self.index), || {
                    format!("leads {name} in epoch {epoch} from {end}, ISR {isr:?}")
                });
                let me = BrokerId(self.index as i32);
                env.check.reports_missing(env.now, me, hosted, missing);
                hosted.told = hosted.told.min(end);
                // One who hears of it after the next election commits nothing.
                let current = env.image().partition(id);
                if current.is_some_and(|current| current.leader_epoch == epoch) {
                    env.check.became_leader(env.now, me, hosted);
                }
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
