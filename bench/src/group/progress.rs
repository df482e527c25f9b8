//! How far the members of all groups are.

use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::usage::Usage;

/// Groups that do not change for so long are stable. Longer than two heartbeats: a coordinator may make
/// the next assignment later than it tells the members of the last one.
const QUIET: Duration = Duration::from_secs(11);
const LIMIT: Duration = Duration::from_secs(300);

/// A member, by the numbers of its group and of itself in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) group: usize,
    pub(super) member: usize,
}

/// Generation or epoch that a member is in, and how many partitions it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: i32,
    pub(super) partitions: usize,
}

/// When all groups had become stable, and what brokers had used until then.
pub(super) struct Settled {
    pub(super) at: Instant,
    pub(super) usage: Usage,
}

pub(super) struct Progress {
    partition_count: usize,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    groups: Vec<Vec<Position>>,
    unsettled: usize,
}

impl Progress {
    pub(super) fn new(groups: usize, partition_count: usize) -> Self {
        let state = State {
            groups: vec![Vec::new(); groups],
            unsettled: groups,
        };
        Self {
            partition_count,
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// A member that has to be stable, too.
    pub(super) fn expect(&self, place: Place) {
        self.change(place, |members| {
            let count = members.len().max(place.member + 1);
            members.resize(count, Position::default());
        });
    }

    pub(super) fn reached(&self, place: Place, position: Position) {
        self.change(place, |members| members[place.member] = position);
    }

    fn change(&self, place: Place, change: impl FnOnce(&mut Vec<Position>)) {
        let mut state = self.state.lock();
        let members = &mut state.groups[place.group];
        let before = members.get(place.member).copied();
        let was_settled = is_settled(members, self.partition_count);
        change(members);
        let is_changed = members.get(place.member).copied() != before;
        let is_settled = is_settled(members, self.partition_count);
        state.unsettled += usize::from(was_settled);
        state.unsettled -= usize::from(is_settled);
        if is_changed {
            self.changed.notify_one();
        }
    }

    /// Waits until every member is in the last epoch of its group, and all partitions are assigned.
    pub(super) async fn settle(&self, pids: &[u32]) -> Result<Settled> {
        loop {
            if self.state.lock().unsettled > 0 {
                let changed = timeout(LIMIT, self.changed.notified()).await;
                changed.with_context(|| format!("nothing changes for {LIMIT:?}"))?;
                continue;
            }
            let usage = Usage::of(pids)?;
            let settled = Settled {
                at: Instant::now(),
                usage,
            };
            if timeout(QUIET, self.changed.notified()).await.is_err() {
                return Ok(settled);
            }
        }
    }
}

fn is_settled(members: &[Position], partition_count: usize) -> bool {
    let Some(first) = members.first().filter(|first| first.epoch > 0) else {
        return false;
    };
    let partitions: usize = members.iter().map(|member| member.partitions).sum();
    partitions == partition_count && members.iter().all(|member| member.epoch == first.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_settled_when_all_members_share_all_partitions_in_one_epoch() {
        let progress = Progress::new(1, 3);
        let unsettled = || progress.state.lock().unsettled;
        let place = |member| Place { group: 0, member };
        let reached = |member, epoch, partitions| {
            progress.reached(place(member), Position { epoch, partitions });
        };
        progress.expect(place(0));
        progress.expect(place(1));
        assert_eq!(unsettled(), 1);
        reached(0, 1, 3);
        assert_eq!(unsettled(), 1, "one has not joined");
        reached(1, 2, 0);
        assert_eq!(unsettled(), 1, "one is behind");
        reached(0, 2, 2);
        assert_eq!(unsettled(), 1, "a partition has no owner");
        reached(1, 2, 1);
        assert_eq!(unsettled(), 0);
        progress.expect(place(2));
        assert_eq!(unsettled(), 1);
    }
}
