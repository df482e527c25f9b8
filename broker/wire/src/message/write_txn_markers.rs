//! WriteTxnMarkers (KIP-98): writes the markers that end transactions. Administrators end a transaction
//! with it that no coordinator knows any more (KIP-664).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 1;

    /// Markers.
    pub struct WriteTxnMarkersRequest {
        markers: Vec<WritableTxnMarker>,
    }

    /// A marker.
    pub struct WritableTxnMarker {
        producer_id: i64,
        producer_epoch: i16,
        /// Whether the transaction is committed.
        transaction_result: bool,
        topics: Vec<WritableTxnMarkerTopic>,
        coordinator_epoch: i32,
    }

    /// Partitions that it is written to.
    pub struct WritableTxnMarkerTopic {
        name: Str,
        partition_indexes: Vec<i32>,
    }
}

message! {
    flexible 1;

    /// Results.
    pub struct WriteTxnMarkersResponse {
        markers: Vec<WritableTxnMarkerResult>,
    }

    /// Results of a marker.
    pub struct WritableTxnMarkerResult {
        producer_id: i64,
        topics: Vec<WritableTxnMarkerTopicResult>,
    }

    /// Results of a topic.
    pub struct WritableTxnMarkerTopicResult {
        name: Str,
        partitions: Vec<WritableTxnMarkerPartitionResult>,
    }

    /// Result of a partition.
    pub struct WritableTxnMarkerPartitionResult {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
