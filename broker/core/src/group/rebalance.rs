//! The rebalance itself: from the reason, over the join phase, to a new generation; and what
//! happens to those who do not keep up.
//!
//! ```text
//! Empty ─┐            all joined,               leader's assignment
//! Stable ┼─► Preparing ─────────► Completing ──────────────────────► Stable
//!        └───────◄── left, expired, changed ──┴───────────────────────┘
//! ```

use alloc::string::String;
use alloc::vec::Vec;

use super::effect::{Context, Effect, RebalanceReason, Response, Then};
use super::error::GroupError;
use super::member::Waiting;
use super::membership::{Group, State};
use super::record::Opaque;
use crate::{Duration, Time};

/// Until when members may join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JoinPhase {
    pub(super) deadline: Time,
    /// Set for the first rebalance of an empty group, which waits for more members.
    pub(super) initial: Option<InitialDelay>,
}

/// `group.initial.rebalance.delay.ms`, started again for each newcomer until `remaining` is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InitialDelay {
    pub(super) remaining: Duration,
    pub(super) has_newcomer: bool,
}

impl Group {
    /// Starts a rebalance unless one is in its join phase already.
    pub(super) fn prepare_rebalance(&mut self, cx: &mut Context<'_>, reason: RebalanceReason) {
        let phase = match self.state {
            State::PreparingRebalance(_) | State::Dead => return,
            State::Empty => {
                let delay = cx.config.initial_rebalance_delay;
                let remaining = self.rebalance_timeout().saturating_sub(delay);
                let initial = Some(InitialDelay {
                    remaining,
                    has_newcomer: false,
                });
                JoinPhase {
                    deadline: cx.now.time.plus(delay),
                    initial,
                }
            }
            State::CompletingRebalance { .. } | State::Stable => JoinPhase {
                deadline: cx.now.time.plus(self.rebalance_timeout()),
                initial: None,
            },
        };
        if matches!(self.state, State::CompletingRebalance { .. }) {
            self.drop_assignment(cx, &GroupError::RebalanceInProgress);
        }
        self.sync_deadline = None;
        self.set_state(cx, State::PreparingRebalance(phase));
        self.arm(phase.deadline);
        cx.out.push(Effect::Rebalance {
            group: self.id.clone(),
            generation: self.generation,
            reason,
        });
        self.try_complete_join(cx);
    }

    /// The longest time any member needs to finish its work and join again.
    fn rebalance_timeout(&self) -> Duration {
        self.members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default()
    }

    /// Ends the join phase if nobody is missing. The initial delay always runs to its end.
    pub(super) fn try_complete_join(&mut self, cx: &mut Context<'_>) {
        let State::PreparingRebalance(JoinPhase { initial: None, .. }) = self.state else {
            return;
        };
        if !self.has_pending_members()
            && self
                .members
                .values()
                .all(|member| member.is_awaiting_join())
        {
            self.complete_join(cx);
        }
    }

    fn end_join_phase(&mut self, cx: &mut Context<'_>, phase: JoinPhase) {
        match phase.initial {
            Some(InitialDelay {
                remaining,
                has_newcomer: true,
            }) if !remaining.is_zero() => {
                let delay = cx.config.initial_rebalance_delay.min(remaining);
                let initial = Some(InitialDelay {
                    remaining: remaining.saturating_sub(delay),
                    has_newcomer: false,
                });
                let deadline = cx.now.time.plus(delay);
                self.state = State::PreparingRebalance(JoinPhase { deadline, initial });
            }
            _ => self.complete_join(cx),
        }
    }

    /// Makes the next generation of those who joined, and of static members that may yet return.
    fn complete_join(&mut self, cx: &mut Context<'_>) {
        let missing: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_awaiting_join() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in missing {
            self.remove(&member_id);
        }
        if self.members.is_empty() {
            self.become_empty(cx);
            return;
        }
        let deadline = cx.now.time.plus(self.rebalance_timeout());
        if !self.elect_joined_leader() {
            // Only static members that are away: wait until one returns or its session expires.
            self.state = State::PreparingRebalance(JoinPhase {
                deadline,
                initial: None,
            });
            return;
        }
        self.generation = self.generation.next();
        self.protocol = self.select_protocol();
        self.set_state(cx, State::CompletingRebalance { storing: false });
        self.sync_deadline = Some(deadline);
        self.arm(deadline);
        self.answer_joins(cx);
    }

    fn become_empty(&mut self, cx: &mut Context<'_>) {
        self.generation = self.generation.next();
        self.protocol = None;
        self.leader = None;
        self.set_state(cx, State::Empty);
        self.append_metadata(cx, |_, _| Opaque::from([]), Then::StoreEmpty);
    }

    fn answer_joins(&mut self, cx: &mut Context<'_>) {
        let member_ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let joined = self.joined(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else {
                continue;
            };
            member.is_new = false;
            member.has_synced = false;
            if let Waiting::Join(token) = member.waiting {
                member.waiting = Waiting::No;
                cx.reply(token, Response::Join(Ok(joined)));
            }
            self.renew_session(cx, &member_id);
        }
    }

    /// Keeps the leader if it joined, else takes another member that did.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &String| {
            self.members
                .get(id)
                .is_some_and(|member| member.is_awaiting_join())
        };
        if !self.leader.as_ref().is_some_and(has_joined) {
            let Some(joined) = self.members.keys().find(|id| has_joined(id)).cloned() else {
                return false;
            };
            self.leader = Some(joined);
        }
        true
    }

    /// Forgets what was assigned in this generation and refuses those who wait for it. Their
    /// sessions stood still meanwhile.
    pub(super) fn drop_assignment(&mut self, cx: &mut Context<'_>, error: &GroupError) {
        let mut refused = Vec::new();
        for (member_id, member) in &mut self.members {
            member.assignment = Opaque::from([]);
            if matches!(member.waiting, Waiting::Sync(_)) {
                member.refuse(cx, error.clone());
                refused.push(member_id.clone());
            }
        }
        for member_id in refused {
            self.renew_session(cx, &member_id);
        }
    }

    /// Takes a member out for good and rebalances among the others.
    pub(super) fn expel(&mut self, cx: &mut Context<'_>, member_id: &str, reason: RebalanceReason) {
        let Some(mut member) = self.remove(member_id) else {
            return;
        };
        member.refuse(cx, GroupError::UnknownMemberId);
        self.prepare_rebalance(cx, reason);
        self.try_complete_join(cx);
    }

    /// Everything whose time has come.
    pub(super) fn handle_tick(&mut self, cx: &mut Context<'_>) {
        let now = cx.now.time;
        if self.expire_pending(now) {
            self.try_complete_join(cx);
        }
        self.expire_sessions(cx);
        self.expire_consumer_members(cx);
        if let State::PreparingRebalance(phase) = self.state
            && phase.deadline <= now
        {
            self.end_join_phase(cx, phase);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.expire_syncs(cx);
        }
        self.wakeup = self.earliest_deadline();
    }

    fn expire_sessions(&mut self, cx: &mut Context<'_>) {
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| {
                member
                    .deadline()
                    .is_some_and(|deadline| deadline <= cx.now.time)
            })
            .map(|(id, _)| id.clone())
            .collect();
        for member_id in expired {
            let reason = RebalanceReason::SessionExpired {
                member_id: member_id.clone(),
            };
            self.expel(cx, &member_id, reason);
        }
    }

    fn expire_syncs(&mut self, cx: &mut Context<'_>) {
        self.sync_deadline = None;
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.has_synced)
            .map(|(id, _)| id.clone())
            .collect();
        if late.is_empty() {
            return;
        }
        for member_id in &late {
            self.remove(member_id);
        }
        self.prepare_rebalance(
            cx,
            RebalanceReason::SyncTimedOut {
                members: late.len(),
            },
        );
    }
}
