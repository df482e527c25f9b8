//! ApiVersions (KIP-35, KIP-511, KIP-584): the APIs and features of this broker.

use broker_core::controller;
use broker_core::metadata::Image;
use broker_wire::message::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use broker_wire::message::{ApiVersionsRequest, ApiVersionsResponse};
use broker_wire::{ApiKey, ErrorCode};

use super::context::{Context, RequestInfo};

/// First version with the name and version of the client's software.
const SOFTWARE_NAME_VERSION_MIN: i16 = 3;
/// First version whose clients read features whose lowest level is 0.
const FEATURE_LEVEL_0_VERSION_MIN: i16 = 4;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: ApiVersionsRequest,
) -> ApiVersionsResponse {
    let named = info.version >= SOFTWARE_NAME_VERSION_MIN;
    let names = [
        &request.client_software_name,
        &request.client_software_version,
    ];
    if named && !names.into_iter().all(|name| is_software_name(name)) {
        return ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest,
            ..ApiVersionsResponse::default()
        };
    }
    // Before the image, which may be newer than the offset then, but not older.
    let offset = ctx.controller.metadata_offset();
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().copied().map(api_version).collect(),
        supported_features: supported_features(info.version),
        finalized_features_epoch: offset.map_or(-1, u64::cast_signed),
        finalized_features: finalized_features(&ctx.image()),
        ..ApiVersionsResponse::default()
    }
}

/// The answer to a version that this broker does not know: which it does, for the client to ask
/// again.
pub(super) fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion,
        api_keys: vec![api_version(ApiKey::ApiVersions)],
        ..ApiVersionsResponse::default()
    }
}

fn api_version(api: ApiKey) -> ApiVersion {
    let versions = api.versions();
    ApiVersion {
        api_key: api.key(),
        min_version: *versions.start(),
        max_version: *versions.end(),
    }
}

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let visible = |min: i16| min > 0 || version >= FEATURE_LEVEL_0_VERSION_MIN;
    let features = controller::supported_features().into_iter();
    let features = features.map(|range| SupportedFeatureKey {
        name: range.name.into(),
        min_version: level(range.min_level),
        max_version: level(range.max_level),
    });
    features
        .filter(|feature| visible(feature.min_version))
        .collect()
}

/// The lowest level is a thing of the past (KIP-778): it is told as the level, too.
fn finalized_features(image: &Image) -> Vec<FinalizedFeatureKey> {
    let features = image.features.iter();
    let features = features.map(|(name, finalized)| FinalizedFeatureKey {
        name: name.clone().into(),
        max_version_level: level(*finalized),
        min_version_level: level(*finalized),
    });
    features.collect()
}

fn level(level: u32) -> i16 {
    i16::try_from(level).unwrap_or(i16::MAX)
}

/// Whether the text is like `apache-kafka-java` or `4.1.0`: letters and digits, with dots and
/// dashes in between (KIP-511).
fn is_software_name(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_checked_as_kafka_does() {
        for (text, valid) in [
            ("apache-kafka-java", true),
            ("4.1.0", true),
            ("a", true),
            ("", false),
            ("-kafka", false),
            ("kafka-", false),
            ("kafka java", false),
            ("käse", false),
        ] {
            assert_eq!(is_software_name(text), valid, "{text:?}");
        }
    }

    #[test]
    fn an_unknown_version_is_told_the_known_ones() {
        let response = unsupported_version();
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion);
        let [key] = &response.api_keys[..] else {
            panic!("one key")
        };
        assert_eq!((key.api_key, key.min_version), (18, 0));
    }
}
