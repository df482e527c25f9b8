//! ListTransactions (KIP-664, KIP-994, KIP-1152): the transactional ids that the broker coordinates.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// Which ids to list; all if there are no filters.
    pub struct ListTransactionsRequest {
        state_filters: Vec<Str>,
        producer_id_filters: Vec<i64>,
        /// Milliseconds that a transaction has lasted at least; -1 for all.
        duration_filter: i64 [1..] = -1,
        transactional_id_pattern: Option<Str> [2..],
    }
}

message! {
    flexible 0;

    /// Transactional ids.
    pub struct ListTransactionsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        unknown_state_filters: Vec<Str>,
        transaction_states: Vec<ListedTransactionState>,
    }

    /// A transactional id.
    pub struct ListedTransactionState {
        transactional_id: Str,
        producer_id: i64,
        transaction_state: Str,
    }
}
