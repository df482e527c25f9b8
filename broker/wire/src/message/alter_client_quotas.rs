//! AlterClientQuotas: sets and removes limits of clients (KIP-546).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Float64, Str};

message! {
    flexible 1;

    /// Changes of quotas, each entity's all or none.
    pub struct AlterClientQuotasRequest {
        entries: Vec<AlterClientQuotasRequestEntry>,
        /// Answer only; change nothing.
        validate_only: bool,
    }

    /// Changes for one entity.
    pub struct AlterClientQuotasRequestEntry {
        entity: Vec<AlterClientQuotasRequestEntity>,
        ops: Vec<AlterClientQuotasRequestOp>,
    }

    /// One type of an entity.
    pub struct AlterClientQuotasRequestEntity {
        entity_type: Str,
        /// Null for the default.
        entity_name: Option<Str>,
    }

    /// Change of one quota.
    pub struct AlterClientQuotasRequestOp {
        key: Str,
        value: Float64,
        /// Remove the quota instead.
        remove: bool,
    }
}

message! {
    flexible 1;

    /// What became of them.
    pub struct AlterClientQuotasResponse {
        throttle_time_ms: i32,
        entries: Vec<AlterClientQuotasResponseEntry>,
    }

    /// What became of one entity's.
    pub struct AlterClientQuotasResponseEntry {
        error_code: ErrorCode,
        error_message: Option<Str>,
        entity: Vec<AlterClientQuotasResponseEntity>,
    }

    /// One type of an entity.
    pub struct AlterClientQuotasResponseEntity {
        entity_type: Str,
        /// Null for the default.
        entity_name: Option<Str>,
    }
}
