//! AlterReplicaLogDirs (KIP-113).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 2;

    /// Where replicas of the asked broker shall be.
    pub struct AlterReplicaLogDirsRequest {
        dirs: Vec<AlterReplicaLogDir>,
    }

    /// A log directory, by its absolute path, and what shall be in it.
    pub struct AlterReplicaLogDir {
        path: Str,
        topics: Vec<AlterReplicaLogDirTopic>,
    }

    /// Partitions of one topic.
    pub struct AlterReplicaLogDirTopic {
        name: Str,
        partitions: Vec<i32>,
    }
}

message! {
    flexible 2;

    /// Whether the moves have begun.
    pub struct AlterReplicaLogDirsResponse {
        throttle_time_ms: i32,
        results: Vec<AlterReplicaLogDirTopicResult>,
    }

    /// What became of one topic's replicas.
    pub struct AlterReplicaLogDirTopicResult {
        topic_name: Str,
        partitions: Vec<AlterReplicaLogDirPartitionResult>,
    }

    /// What became of one replica.
    pub struct AlterReplicaLogDirPartitionResult {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
