//! IncrementalAlterConfigs (KIP-339): changes single configuration values.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 1;

    /// Values to change.
    pub struct IncrementalAlterConfigsRequest {
        resources: Vec<AlterConfigsResource>,
        validate_only: bool,
    }

    /// A resource to change.
    pub struct AlterConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger, 16: client metrics, 32: group.
        resource_type: i8,
        resource_name: Str,
        configs: Vec<AlterableConfig>,
    }

    /// A value to change and how.
    pub struct AlterableConfig {
        name: Str,
        /// 0: set, 1: delete, 2: append to the list, 3: subtract from the list.
        config_operation: i8,
        value: Option<Str>,
    }
}

message! {
    flexible 1;

    /// What became of it.
    pub struct IncrementalAlterConfigsResponse {
        throttle_time_ms: i32,
        responses: Vec<AlterConfigsResourceResponse>,
    }

    /// What became of one resource.
    pub struct AlterConfigsResourceResponse {
        error_code: ErrorCode,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
    }
}
