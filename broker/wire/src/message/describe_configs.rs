//! DescribeConfigs: the configuration of topics and brokers and where each value comes from.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 4;

    /// Resources to describe.
    pub struct DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool,
        include_documentation: bool [3..],
    }

    /// A resource to describe.
    pub struct DescribeConfigsResource {
        /// 2: topic, 4: broker, 8: broker logger, 16: client metrics, 32: group.
        resource_type: i8,
        resource_name: Str,
        /// Null is all.
        configuration_keys: Option<Vec<Str>>,
    }
}

message! {
    flexible 4;

    /// Configurations.
    pub struct DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    /// Configuration of one resource.
    pub struct DescribeConfigsResult {
        error_code: ErrorCode,
        error_message: Option<Str>,
        resource_type: i8,
        resource_name: Str,
        configs: Vec<DescribeConfigsResourceResult>,
    }

    /// A configuration value in effect.
    pub struct DescribeConfigsResourceResult {
        name: Str,
        value: Option<Str>,
        read_only: bool,
        /// 1: topic, 2: broker, 3: default of all brokers, 4: configuration file, 5:
        /// built-in default,
        /// 6: broker logger, 7: client metrics, 8: group.
        config_source: i8 = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym>,
        /// 0: unknown, 1: boolean, 2: string, 3: int, 4: short, 5: long, 6: double, 7:
        /// list, 8: class,
        /// 9: password.
        config_type: i8 [3..],
        documentation: Option<Str> [3..],
    }

    /// A value of the same configuration at another level, by falling priority.
    pub struct DescribeConfigsSynonym {
        name: Str,
        value: Option<Str>,
        /// As `config_source`.
        source: i8,
    }
}
