//! DescribeClientQuotas: the limits of clients (KIP-546).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Float64, Str};

/// [`DescribeClientQuotasRequestComponent::match_type`]: the entity has this name.
pub const MATCH_EXACT: i8 = 0;
/// [`DescribeClientQuotasRequestComponent::match_type`]: the default of its type.
pub const MATCH_DEFAULT: i8 = 1;
/// [`DescribeClientQuotasRequestComponent::match_type`]: any name, and the default.
pub const MATCH_ANY: i8 = 2;

message! {
    flexible 1;

    /// Which quotas to show: those of entities that match every component.
    pub struct DescribeClientQuotasRequest {
        components: Vec<DescribeClientQuotasRequestComponent>,
        /// Leave out entities with types that no component names.
        strict: bool,
    }

    /// What an entity has of one type.
    pub struct DescribeClientQuotasRequestComponent {
        entity_type: Str,
        match_type: i8,
        /// The name, for [`MATCH_EXACT`].
        r#match: Option<Str>,
    }
}

message! {
    flexible 1;

    /// The quotas.
    pub struct DescribeClientQuotasResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        /// Null after an error.
        entries: Option<Vec<DescribeClientQuotasResponseEntry>>,
    }

    /// The quotas of an entity.
    pub struct DescribeClientQuotasResponseEntry {
        entity: Vec<DescribeClientQuotasResponseEntity>,
        values: Vec<DescribeClientQuotasResponseValue>,
    }

    /// One type of an entity.
    pub struct DescribeClientQuotasResponseEntity {
        entity_type: Str,
        /// Null for the default.
        entity_name: Option<Str>,
    }

    /// One quota.
    pub struct DescribeClientQuotasResponseValue {
        key: Str,
        value: Float64,
    }
}
