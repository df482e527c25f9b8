//! What the active controller's no means, in words that say what to do.

use crate::observed::{Blocker, BlockerReason};

/// Partitions that a message names.
const NAMED_MAX: usize = 5;

/// Why broker `id` may not stop; the first of `total` reasons are known.
pub(super) fn message(id: i32, blockers: &[Blocker], total: u32) -> String {
    let named: Vec<_> = blockers.iter().take(NAMED_MAX).map(text).collect();
    let left = usize::try_from(total).unwrap_or(usize::MAX);
    let left = left.saturating_sub(named.len());
    let more = if left > 0 {
        format!(" and {left} more")
    } else {
        String::new()
    };
    let advice = blockers
        .first()
        .map_or("", |blocker| advice(blocker.reason));
    format!(
        "broker {id} may not stop: {}{more}; {advice}",
        named.join(", ")
    )
}

fn text(blocker: &Blocker) -> String {
    let effect = match blocker.reason {
        BlockerReason::BelowMinIsr => "would fall below min.insync.replicas",
        BlockerReason::Unavailable => "would have no leader",
        BlockerReason::QuorumLoss => "would lose its majority",
        BlockerReason::NotCaughtUp => "has a replica that is still catching up",
        BlockerReason::Other => "would be harmed",
    };
    match &blocker.partition {
        Some((topic, partition)) => format!("{topic}-{partition} {effect}"),
        None => format!("the metadata quorum {effect}"),
    }
}

fn advice(reason: BlockerReason) -> &'static str {
    match reason {
        BlockerReason::BelowMinIsr => {
            "bring the missing brokers back, or lower min.insync.replicas of the topic"
        }
        BlockerReason::Unavailable => "bring the brokers of its other replicas back",
        BlockerReason::QuorumLoss => "bring the missing voters back",
        BlockerReason::NotCaughtUp => "it goes on by itself once the replica is in sync",
        BlockerReason::Other => "see the brokers' logs",
    }
}
