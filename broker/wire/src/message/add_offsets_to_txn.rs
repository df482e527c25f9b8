//! AddOffsetsToTxn (KIP-98): makes the offsets of a group part of a transaction.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 3;

    /// The group.
    pub struct AddOffsetsToTxnRequest {
        transactional_id: Str,
        producer_id: i64,
        producer_epoch: i16,
        group_id: Str,
    }
}

message! {
    flexible 3;

    /// What became of it.
    pub struct AddOffsetsToTxnResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
    }
}
