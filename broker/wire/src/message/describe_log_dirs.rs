//! DescribeLogDirs (KIP-113, KIP-827).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// The partitions to tell of; all without a list.
    pub struct DescribeLogDirsRequest {
        topics: Option<Vec<DescribableLogDirTopic>>,
    }

    /// A topic with partitions to tell of.
    pub struct DescribableLogDirTopic {
        topic: Str,
        partitions: Vec<i32>,
    }
}

message! {
    flexible 2;

    /// What is in the broker's log directories.
    pub struct DescribeLogDirsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [3..],
        results: Vec<DescribeLogDirsResult>,
    }

    /// One log directory. Bytes are those of its file system, -1 for unknown.
    pub struct DescribeLogDirsResult {
        error_code: ErrorCode,
        log_dir: Str,
        topics: Vec<DescribeLogDirsTopic>,
        total_bytes: i64 [4..] = -1,
        usable_bytes: i64 [4..] = -1,
    }

    /// A topic with replicas in the directory.
    pub struct DescribeLogDirsTopic {
        name: Str,
        partitions: Vec<DescribeLogDirsPartition>,
    }

    /// A replica in the directory. A future one is being moved there.
    pub struct DescribeLogDirsPartition {
        partition_index: i32,
        partition_size: i64,
        offset_lag: i64,
        is_future_key: bool,
    }
}
