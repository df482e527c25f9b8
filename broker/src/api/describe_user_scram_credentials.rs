//! DescribeUserScramCredentials (KIP-554): no user has any. kafka-configs asks for them with a user's
//! quotas.

use std::collections::BTreeSet;

use broker_wire::message::describe_user_scram_credentials::DescribeUserScramCredentialsResult;
use broker_wire::message::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use broker_wire::{ErrorCode, Str};

use super::context::{Context, RequestInfo};

pub(super) async fn handle(
    _ctx: &Context,
    _info: &RequestInfo,
    request: DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let named = request.users.unwrap_or_default();
    let names = named.into_iter().map(|user| user.name);
    let names: BTreeSet<Str> = names.collect();
    let unknown = names.into_iter().map(|user| {
        let reason = format!(
            "user {user:?} has no SCRAM credentials",
            user = user.as_str()
        );
        DescribeUserScramCredentialsResult {
            user,
            error_code: ErrorCode::ResourceNotFound,
            error_message: Some(reason.into()),
            ..DescribeUserScramCredentialsResult::default()
        }
    });
    DescribeUserScramCredentialsResponse {
        results: unknown.collect(),
        ..DescribeUserScramCredentialsResponse::default()
    }
}
