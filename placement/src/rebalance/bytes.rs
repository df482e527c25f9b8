//! As many bytes on every broker of a rack, within a tolerance: the fullest broker and the emptiest
//! exchange a large replica for a small one. Nobody gets more replicas by that, and no rack either.

use super::placed::Placed;
use super::{Reason, bytes_tolerance};

/// Replicas of the fullest broker that are tried for one exchange.
const CANDIDATES_MAX: usize = 64;
/// Replicas of the emptiest broker around the best size that are tried for each of them.
const PARTNERS_MAX: usize = 8;
/// An exchange closes at least this share of the gap, or it is not worth its copies.
const GAP_SHARE_MIN: u64 = 8;

/// Exchanges replicas until the tolerance is kept, or no exchange is worth it; whether there was one.
pub(super) fn even_out(placed: &mut Placed<'_>) -> bool {
    let mut has_moved = false;
    for rack in 0..placed.racks.len() {
        while let Some(exchange) = next(placed, rack) {
            let Exchange {
                from,
                to,
                out,
                back,
            } = exchange;
            let reason = Reason::Bytes {
                from: placed.id(from),
                to: placed.id(to),
                bytes: (placed.bytes[from], placed.bytes[to]),
            };
            placed.relocate(out, from, to, reason);
            placed.relocate(back, to, from, reason);
            has_moved = true;
        }
    }
    has_moved
}

/// `out` goes from one broker to the other, `back` the other way.
struct Exchange {
    from: usize,
    to: usize,
    out: usize,
    back: usize,
}

fn next(placed: &Placed<'_>, rack: usize) -> Option<Exchange> {
    let brokers = &placed.racks[rack];
    let key = |broker: &usize| (placed.bytes[*broker], *broker);
    let from = brokers.iter().copied().max_by_key(key)?;
    let to = brokers.iter().copied().min_by_key(key)?;
    let total: u64 = brokers.iter().map(|broker| placed.bytes[*broker]).sum();
    let gap = placed.bytes[from] - placed.bytes[to];
    if gap <= bytes_tolerance(total, brokers.len()) {
        return None;
    }
    let sorted = by_size(placed, to, from);
    let candidates = by_size(placed, from, to);
    let step = candidates.len().div_ceil(CANDIDATES_MAX).max(1);
    let pairs = candidates.iter().rev().step_by(step).flat_map(|out| {
        let wanted = out.0.saturating_sub(gap / 2);
        let middle = sorted.partition_point(|(size, _)| *size < wanted);
        let low = middle.saturating_sub(PARTNERS_MAX / 2);
        let partners = sorted.iter().skip(low).take(PARTNERS_MAX);
        partners.map(move |back| (*out, *back))
    });
    let worth = pairs.filter_map(|((size_out, out), (size_back, back))| {
        let less = size_out.checked_sub(size_back)?;
        // More than the whole gap would only turn it around.
        let closes = less.min(gap.checked_sub(less)?);
        (closes >= (gap / GAP_SHARE_MIN).max(1)).then_some((closes, out, back))
    });
    let (_, out, back) = worth.max_by_key(|(closes, out, back)| (*closes, *out, *back))?;
    Some(Exchange {
        from,
        to,
        out,
        back,
    })
}

/// Partitions that `from` may give to `to`, ascending by size.
fn by_size(placed: &Placed<'_>, from: usize, to: usize) -> Vec<(u64, usize)> {
    let hosted = placed.hosted(from).iter().copied();
    let mut sorted: Vec<_> = hosted
        .filter(|partition| placed.may_move(*partition, from, to))
        .map(|partition| (placed.size(partition), partition))
        .collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
