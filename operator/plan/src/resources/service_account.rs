//! The brokers' ServiceAccount. It has no rights, and no credentials of it reach the pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::owned;
use crate::naming;
use crate::validate::Validated;

#[must_use]
pub fn service_account(valid: &Validated) -> ServiceAccount {
    ServiceAccount {
        metadata: owned(valid, naming::service_account(&valid.name)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
