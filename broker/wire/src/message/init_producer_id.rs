//! InitProducerId (KIP-98, KIP-360): gives an idempotent or transactional producer its id and
//! epoch.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Asks for an id, or for a new epoch of the one that the producer has.
    pub struct InitProducerIdRequest {
        transactional_id: Option<Str>,
        transaction_timeout_ms: i32,
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }
}

message! {
    flexible 2;

    /// Id and epoch of the producer.
    pub struct InitProducerIdResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }
}
