//! What openraft reports about this member, made into what the rest of the broker watches: who
//! leads, who the members are, whether this one has failed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::quorum::VoterKey;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::{Instant as _, RaftMetrics, ServerState};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use super::types::{NodeId, Raft, TypeConfig};

/// Who leads the quorum, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    pub(crate) term: u64,
    pub(crate) leader: Option<VoterKey>,
}

impl Leadership {
    /// The leader as a broker.
    pub(crate) fn broker(&self) -> Option<BrokerId> {
        self.leader.map(|leader| leader.id)
    }

    /// Returns once `now` shows something else.
    pub(crate) async fn ended(self, now: &mut watch::Receiver<Self>) {
        // Without a sender the quorum has stopped, which ends every leadership.
        let _ = now.wait_for(|now| *now != self).await;
    }
}

/// The newest membership entry that this broker has; empty before the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) voters: BTreeMap<VoterKey, String>,
    pub(crate) learners: BTreeMap<VoterKey, String>,
}

impl Members {
    pub(crate) fn voter_ids(&self) -> BTreeSet<BrokerId> {
        self.voters.keys().map(|voter| voter.id).collect()
    }

    pub(crate) fn contains(&self, key: &VoterKey) -> bool {
        self.voters.contains_key(key) || self.learners.contains_key(key)
    }
}

/// Moments at which something happened, shared between those who see it and those who ask.
#[derive(Default)]
pub(crate) struct Moments {
    /// A leader's last call to this member.
    heard_leader: Mutex<Option<Instant>>,
    /// As a leader: when a member had the whole log last.
    caught_up: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Moments {
    /// A leader has called this member.
    pub(crate) fn hear_leader(&self) {
        *self.heard_leader.lock() = Some(Instant::now());
    }

    /// When the member had the whole log last, in this leader's time.
    pub(crate) fn caught_up(&self, member: VoterKey) -> Option<Instant> {
        self.caught_up.lock().get(&member.into()).copied()
    }

    fn heard_leader_within(&self, limit: Duration) -> bool {
        let heard = *self.heard_leader.lock();
        heard.is_some_and(|heard| heard.elapsed() < limit)
    }

    fn note_caught_up(&self, metrics: &RaftMetrics<TypeConfig>) {
        let mut caught_up = self.caught_up.lock();
        let Some(replication) = &metrics.replication else {
            caught_up.clear();
            return;
        };
        caught_up.retain(|member, _| replication.contains_key(member));
        for (member, matched) in replication {
            if matched.map(|position| position.index) >= metrics.last_log_index {
                caught_up.insert(*member, Instant::now());
            }
        }
    }
}

/// What this member watches.
pub(crate) struct Observed {
    pub(crate) leadership: watch::Receiver<Leadership>,
    pub(crate) members: watch::Receiver<Members>,
    /// Set once this member has stopped by an error.
    pub(crate) failure: watch::Receiver<Option<String>>,
}

/// Follows openraft's metrics for as long as it runs. A leader that no majority has answered for
/// `lease` counts as none, although it does not know of another one yet; so does one that a
/// follower has not heard of for two of them, because a member that was removed while it was away
/// is never told.
pub(crate) fn observe(raft: &Raft, lease: Duration, moments: Arc<Moments>) -> Observed {
    let (leadership, leadership_out) = watch::channel(Leadership::default());
    let (members, members_out) = watch::channel(Members::default());
    let (failure, failure_out) = watch::channel(None);
    let mut metrics = raft.metrics();
    tokio::spawn(async move {
        let mut check = interval(lease / 4);
        loop {
            let (now, newest, stopped) = {
                let metrics = metrics.borrow_watched();
                moments.note_caught_up(&metrics);
                (
                    believed_leadership(&metrics, lease, &moments),
                    members_of(&metrics),
                    metrics.running_state.clone().err(),
                )
            };
            leadership.send_if_modified(|known| std::mem::replace(known, now) != now);
            members.send_if_modified(|known| {
                let changed = *known != newest;
                *known = newest;
                changed
            });
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
    Observed {
        leadership: leadership_out,
        members: members_out,
        failure: failure_out,
    }
}

fn believed_leadership(
    metrics: &RaftMetrics<TypeConfig>,
    lease: Duration,
    moments: &Moments,
) -> Leadership {
    let is_alone = metrics.membership_config.voter_ids().count() == 1;
    let is_followed = || {
        metrics
            .last_quorum_acked
            .is_some_and(|acked| acked.into_inner().elapsed() < lease)
    };
    let believed = metrics.current_leader.filter(|leader| {
        if *leader == metrics.id {
            metrics.state == ServerState::Leader && (is_alone || is_followed())
        } else {
            moments.heard_leader_within(lease * 2)
        }
    });
    Leadership {
        term: metrics.current_term,
        leader: believed.map(VoterKey::from),
    }
}

fn members_of(metrics: &RaftMetrics<TypeConfig>) -> Members {
    let membership = metrics.membership_config.membership();
    let mut members = Members::default();
    let voters: Vec<NodeId> = membership.voter_ids().collect();
    for (id, node) in membership.nodes() {
        let of_role = if voters.contains(id) {
            &mut members.voters
        } else {
            &mut members.learners
        };
        of_role.insert((*id).into(), node.addr.clone());
    }
    members
}
