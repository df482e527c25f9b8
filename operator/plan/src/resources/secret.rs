//! The Secret with the token that brokers and operator show each other.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use super::owned;
use crate::naming;
use crate::validate::Validated;

/// The Secret of a new cluster. It is created, never changed: running brokers hold the old token.
#[must_use]
pub fn token_secret(valid: &Validated, token: &str) -> Secret {
    Secret {
        metadata: owned(valid, naming::token_secret(&valid.name)),
        string_data: Some(BTreeMap::from([(
            naming::TOKEN_KEY.to_owned(),
            token.to_owned(),
        )])),
        ..Secret::default()
    }
}
