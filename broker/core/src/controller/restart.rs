//! A restart that is announced: the broker's leaders move before it stops.
//!
//! The announcement is a lease. It is bound to one registration, so that the restarted broker is
//! free of it, and it ends by itself when the restart does not come. While it holds, the broker
//! stays in every ISR and leads only what nobody else can.

use alloc::format;
use alloc::vec::Vec;

use super::brokers::{check_incarnation, known};
use super::command::PrepareRestart;
use super::draft::{Draft, SETTLED_PER_DECISION_MAX};
use super::elect_leaders::may_lead;
use super::election::lead;
use super::error::{CommandError, Failure};
use super::response::{Accepted, Response, RestartPrepared};
use crate::metadata::{Record, RestartLease};
use crate::{BrokerId, TopicPartition};

/// Longest time for which a lease may be asked, in milliseconds.
pub const RESTART_LEASE_TTL_MS_MAX: u64 = 3_600_000;

/// May be repeated, which renews the lease and moves leaders whose successors have caught up.
pub(super) fn prepare(draft: &mut Draft, command: &PrepareRestart) -> Result<Response, Failure> {
    let broker = known(draft, command.broker_id)?;
    check_incarnation(broker, &command.incarnation)?;
    if command.ttl_ms > RESTART_LEASE_TTL_MS_MAX {
        return Err(Failure::new(
            CommandError::InvalidRequest,
            format!("a restart may take {RESTART_LEASE_TTL_MS_MAX} ms at most"),
        ));
    }
    let id = broker.id;
    let lease = RestartLease {
        broker_id: id.0,
        broker_epoch: broker.epoch.0,
        ttl_ms: command.ttl_ms,
        generation: broker.restart_lease.map_or(1, |lease| lease.generation + 1),
    };
    match (broker.restart_lease, command.ttl_ms) {
        (None, 0) => {}
        (Some(held), 0) => end(draft, held),
        (_, 1..) => {
            draft.push(Record::RestartLease(lease));
            draft.settle_partitions(|partition| partition.leader == Some(id), None);
        }
    }
    Ok(Response::PrepareRestart(prepared(draft, id)))
}

/// Ends the lease unless it was renewed or has ended meanwhile.
pub(super) fn expire(draft: &mut Draft, lease: RestartLease) -> Response {
    let broker = draft.image().brokers.get(&BrokerId(lease.broker_id));
    if broker.and_then(|broker| broker.restart_lease) == Some(lease) {
        end(draft, lease);
    }
    Response::Accepted(Accepted {})
}

/// The broker gets back what it leads by preference; what is more than one decision changes waits for
/// the next look at preferred leaders.
fn end(draft: &mut Draft, lease: RestartLease) {
    draft.push(Record::RestartLease(RestartLease { ttl_ms: 0, ..lease }));
    let id = BrokerId(lease.broker_id);
    let image = draft.image();
    let partitions: Vec<TopicPartition> = image
        .partitions()
        .filter(|(_, state)| state.preferred_leader() == Some(id) && may_lead(image, state, id))
        .map(|(partition, _)| partition)
        .take(SETTLED_PER_DECISION_MAX)
        .collect();
    for partition in partitions {
        let state = draft.image().partition(partition);
        if let Some(next) = state.and_then(|state| lead(state, id)) {
            draft.push(Record::Partition(next.to_record(partition)));
        }
    }
}

fn prepared(draft: &Draft, id: BrokerId) -> RestartPrepared {
    let image = draft.image();
    let led = image
        .partitions()
        .filter(|(_, state)| state.leader == Some(id))
        .count();
    let left = image.leaders_to_hand_over(id);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    RestartPrepared {
        leaders_left: number(left),
        leaders_kept: number(led - left),
    }
}
