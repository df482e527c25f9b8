//! ApiVersions (KIP-35, KIP-511, KIP-584): the APIs and features of this broker.

use broker_wire::message::api_versions::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use broker_wire::message::{ApiVersionsRequest, ApiVersionsResponse};
use broker_wire::{ApiKey, ErrorCode};

use super::context::{Context, RequestInfo};

/// First version with the name and version of the client's software.
const SOFTWARE_NAME_VERSION_MIN: i16 = 3;
/// First version whose clients read features whose lowest level is 0.
const FEATURE_LEVEL_0_VERSION_MIN: i16 = 4;

/// Features with their lowest and highest level. Levels of `metadata.version` are Kafka's; tools
/// conclude from it which admin APIs they may use.
const FEATURES: &[(&str, i16, i16)] = &[("metadata.version", METADATA_VERSION, METADATA_VERSION)];
/// Level of Kafka 4.1, whose APIs this broker advertises.
const METADATA_VERSION: i16 = 27;

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
    let offset = ctx.controller.metadata_offset();
    ApiVersionsResponse {
        api_keys: ApiKey::ALL.iter().copied().map(api_version).collect(),
        supported_features: supported_features(info.version),
        finalized_features_epoch: offset.map_or(-1, u64::cast_signed),
        finalized_features: finalized_features(),
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
    let features = FEATURES.iter().filter(|(_, min, _)| visible(*min));
    let features = features.map(|(name, min, max)| SupportedFeatureKey {
        name: (*name).into(),
        min_version: *min,
        max_version: *max,
    });
    features.collect()
}

fn finalized_features() -> Vec<FinalizedFeatureKey> {
    let features = FEATURES.iter().map(|(name, _, max)| FinalizedFeatureKey {
        name: (*name).into(),
        max_version_level: *max,
        min_version_level: *max,
    });
    features.collect()
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
