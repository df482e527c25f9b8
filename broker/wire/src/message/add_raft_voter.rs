//! AddRaftVoter (KIP-853): one more voter of the metadata quorum.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// The voter to add.
    pub struct AddRaftVoterRequest {
        cluster_id: Option<Str>,
        timeout_ms: i32,
        voter_id: i32,
        voter_directory_id: Uuid,
        listeners: Vec<AddRaftVoterListener>,
    }

    /// Where the voter can be reached.
    pub struct AddRaftVoterListener {
        name: Str,
        host: Str,
        /// To be read as unsigned.
        port: i16,
    }
}

message! {
    flexible 0;

    /// What became of it.
    pub struct AddRaftVoterResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
