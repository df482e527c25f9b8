//! DescribeUserScramCredentials: which users have SCRAM credentials (KIP-554).

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// Whose credentials to show.
    pub struct DescribeUserScramCredentialsRequest {
        /// Null or empty: all users'.
        users: Option<Vec<UserName>>,
    }

    /// A user.
    pub struct UserName {
        name: Str,
    }
}

message! {
    flexible 0;

    /// What the users have.
    pub struct DescribeUserScramCredentialsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        results: Vec<DescribeUserScramCredentialsResult>,
    }

    /// What one user has.
    pub struct DescribeUserScramCredentialsResult {
        user: Str,
        error_code: ErrorCode,
        error_message: Option<Str>,
        credential_infos: Vec<CredentialInfo>,
    }

    /// One credential.
    pub struct CredentialInfo {
        mechanism: i8,
        iterations: i32,
    }
}
