//! EndTxn (KIP-98, KIP-890): commits or aborts a transaction.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 3;

    /// The transaction, and how it ends.
    pub struct EndTxnRequest {
        transactional_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        /// Else it is aborted.
        committed: bool,
    }
}

message! {
    flexible 3;

    /// What the producer goes on with.
    pub struct EndTxnResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        producer_id: i64 [5..] = -1,
        producer_epoch: i16 [5..] = -1,
    }
}
