//! RemoveRaftVoter (KIP-853): one voter of the metadata quorum less.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// The voter to remove.
    pub struct RemoveRaftVoterRequest {
        cluster_id: Option<Str>,
        voter_id: i32,
        voter_directory_id: Uuid,
    }
}

message! {
    flexible 0;

    /// What became of it.
    pub struct RemoveRaftVoterResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
