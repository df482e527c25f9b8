//! How far brokers that leave are emptied, in words.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::{Reason, Scale, Situation, waiting};
use crate::observed::{ClusterFacts, DrainProgress};

/// Brokers whose progress is asked for in one pass. All that leave are emptied together.
const DRAINS_ASKED_MAX: usize = 5;

/// What is waited for once nothing is to be done; nothing when no broker leaves.
pub(super) fn wait(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Scale> {
    let first = *situation.leaving.first()?;
    let replicas = |id: &i32| facts.brokers.get(id).map_or(0, |broker| broker.replicas);
    let filled = situation.leaving.iter().filter(|id| replicas(id) > 0);
    let asked: Vec<i32> = filled.copied().take(DRAINS_ASKED_MAX).collect();
    if asked.is_empty() {
        return Some(waiting(Reason::Draining, stopping(situation, first)));
    }
    let unasked = |id: &&i32| !situation.drains.contains_key(id);
    if let Some(id) = asked.iter().find(unasked) {
        return Some(Scale::Ask(*id));
    }
    let told = asked.iter().map(|id| {
        let (reason, how) = told(situation, &situation.drains[id]);
        let message = format!("{} replicas of broker {id} are left{how}", replicas(id));
        (reason, message)
    });
    let worst = told.max_by_key(|(reason, _)| *reason)?;
    Some(waiting(worst.0, worst.1))
}

fn stopping(situation: &Situation<'_>, id: i32) -> String {
    let process = situation.processes.get(&id).copied().unwrap_or_default();
    if process.runs && process.stateful_set && situation.admin.broker(id).is_none() {
        format!("broker {id} is starting, and is removed once the controller knows it")
    } else if process.pod {
        format!(
            "broker {id} is empty, and is forgotten once its pod has stopped: if its node is gone for \
             good, delete the node"
        )
    } else {
        format!("broker {id} is empty, and is forgotten once the controller has missed it")
    }
}

fn told(situation: &Situation<'_>, drain: &DrainProgress) -> (Reason, String) {
    let (bytes_left, last_progress_at, blocked) = match drain {
        DrainProgress::Unknown(why) => {
            let how = format!(", and nobody can tell whether they move: {why}");
            return (Reason::AdminUnreachable, how);
        }
        DrainProgress::Known {
            bytes_left,
            last_progress_at,
            blocked,
        } => (bytes_left, last_progress_at, blocked),
    };
    let size = bytes_left.map(|bytes| format!(", {}", size(bytes)));
    let size = size.unwrap_or_default();
    let stalled = last_progress_at.filter(|at| is_stalled(situation, *at));
    match (stalled, blocked) {
        (Some(at), None) => (
            Reason::DrainStalled,
            format!("{size}, and none has left since {at}: look at the brokers that take them"),
        ),
        (Some(_), Some(why)) => (
            Reason::DrainStalled,
            format!("{size}, and some cannot move: {why}"),
        ),
        (None, Some(why)) => (
            Reason::DrainBlocked,
            format!("{size}, and some cannot move: {why}"),
        ),
        (None, None) => (Reason::Draining, format!("{size}, and move to others")),
    }
}

fn is_stalled(situation: &Situation<'_>, last_progress_at: Timestamp) -> bool {
    let limit = SignedDuration::try_from(situation.drain_stall_timeout);
    let limit = limit.unwrap_or(SignedDuration::MAX);
    situation.now.duration_since(last_progress_at) >= limit
}

fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut scaled = (bytes, "bytes");
    for unit in units {
        if scaled.0 < 10 * 1024 {
            break;
        }
        scaled = (scaled.0 / 1024, unit);
    }
    format!("{} {}", scaled.0, scaled.1)
}
