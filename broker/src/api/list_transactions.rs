//! ListTransactions: the transactional ids that this broker coordinates.

use broker_core::transaction::{State, TransactionMetadata};
use broker_wire::message::list_transactions::ListedTransactionState;
use broker_wire::message::{ListTransactionsRequest, ListTransactionsResponse};
use broker_wire::{ErrorCode, Str};
use regex::{Regex, RegexBuilder};

use super::context::{Context, RequestInfo};
use crate::clock;
use crate::transaction::Refused;

/// Memory that a pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let refused = |error_code| ListTransactionsResponse {
        error_code,
        ..ListTransactionsResponse::default()
    };
    let Ok(pattern) = pattern(request.transactional_id_pattern.as_deref()) else {
        return refused(ErrorCode::InvalidRegularExpression);
    };
    let unknown_state_filters = request.state_filters.iter();
    let unknown_state_filters: Vec<Str> = unknown_state_filters
        .filter(|name| State::from_name(name).is_none())
        .cloned()
        .collect();
    let listed = ctx.transactions.list(|id, metadata| {
        let matches = pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
        (matches && admits(&request, metadata)).then(|| ListedTransactionState {
            transactional_id: Str::from(id.to_string()),
            producer_id: metadata.producer_id.0,
            transaction_state: metadata.state.name().into(),
        })
    });
    match listed {
        Ok(transaction_states) => ListTransactionsResponse {
            unknown_state_filters,
            transaction_states,
            ..ListTransactionsResponse::default()
        },
        // What administrators try again.
        Err(Refused::NotCoordinator) => refused(ErrorCode::CoordinatorNotAvailable),
        Err(error) => refused(error.code()),
    }
}

/// A pattern is to match the whole id (KIP-1152).
fn pattern(text: Option<&str>) -> Result<Option<Regex>, regex::Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map(Some)
}

fn admits(request: &ListTransactionsRequest, metadata: &TransactionMetadata) -> bool {
    let states = &request.state_filters;
    let ids = &request.producer_id_filters;
    let in_state = |name: &Str| State::from_name(name) == Some(metadata.state);
    let lasted_ms = match metadata.started_at.0 {
        0.. => clock::timestamp().0.saturating_sub(metadata.started_at.0),
        _ => -1,
    };
    (states.is_empty() || states.iter().any(in_state))
        && (ids.is_empty() || ids.contains(&metadata.producer_id.0))
        && (request.duration_filter < 0 || lasted_ms > request.duration_filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_ids_and_takes_bounded_memory() {
        let orders = pattern(Some("orders-.*|x")).unwrap().unwrap();
        for (id, matches) in [
            ("orders-1", true),
            ("my-orders-1", false),
            ("x", true),
            ("xy", false),
        ] {
            assert_eq!(orders.is_match(id), matches, "{id}");
        }
        assert!(pattern(None).unwrap().is_none());
        assert!(pattern(Some("")).unwrap().is_none());
        assert!(pattern(Some("(")).is_err());
        assert!(pattern(Some("((a{1000}){1000}){1000}")).is_err());
    }
}
