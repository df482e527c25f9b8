//! UpdateFeatures (KIP-584, KIP-778): finalizes features at other levels.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::Str;

message! {
    flexible 0;

    /// The levels wanted, all of them or none.
    pub struct UpdateFeaturesRequest {
        timeout_ms: i32 = 60_000,
        feature_updates: Vec<FeatureUpdateKey>,
        validate_only: bool [1..],
    }

    /// A feature and its level.
    pub struct FeatureUpdateKey {
        feature: Str,
        /// Below 1: the feature is no longer finalized.
        max_version_level: i16,
        allow_downgrade: bool [0..=0],
        /// 1: upgrade only, 2: downgrade without loss, 3: downgrade with loss.
        upgrade_type: i8 [1..] = 1,
    }
}

message! {
    flexible 0;

    /// Whether the levels are those wanted.
    pub struct UpdateFeaturesResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
        results: Vec<UpdatableFeatureResult> [..=1],
    }

    /// Outcome for a feature.
    pub struct UpdatableFeatureResult {
        feature: Str,
        error_code: ErrorCode,
        error_message: Option<Str>,
    }
}
