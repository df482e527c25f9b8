//! AlterClientQuotas (KIP-546): sets and removes limits of clients.

use broker_core::client_quota;
use broker_core::controller::{AlterClientQuota, AlterClientQuotas, Command, QuotaOp, Response};
use broker_core::metadata::{Image, QuotaEntity, QuotaEntityName};
use broker_wire::message::alter_client_quotas::{
    AlterClientQuotasRequestEntity, AlterClientQuotasRequestEntry, AlterClientQuotasRequestOp,
    AlterClientQuotasResponseEntity, AlterClientQuotasResponseEntry,
};
use broker_wire::message::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use broker_wire::{ErrorCode, Float64};

use super::context::{Context, RequestInfo};
use super::create_topics::{Refusal, deadline, outcome, submit, until_shown};

/// Entity type of a client id.
pub(super) const CLIENT_ID: &str = "client-id";
/// Entity type of a user.
pub(super) const USER: &str = "user";
/// Entity type of an IP address, which has no quotas here.
pub(super) const IP: &str = "ip";
/// The request names no time-out.
const TIMEOUT_MS: i32 = 30_000;
/// 2^63, the first double above the values that Kafka's settings of this type take.
const VALUE_BOUND: f64 = 9_223_372_036_854_775_808.0;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let refusals = alter(ctx, &request).await;
    let entries = request.entries.into_iter().zip(refusals);
    let entries = entries.map(|(entry, refusal)| {
        let (error_code, error_message) = outcome(refusal);
        let entity = entry.entity.into_iter();
        let entity = entity.map(|entity| AlterClientQuotasResponseEntity {
            entity_type: entity.entity_type,
            entity_name: entity.entity_name,
        });
        AlterClientQuotasResponseEntry {
            error_code,
            error_message,
            entity: entity.collect(),
        }
    });
    AlterClientQuotasResponse {
        entries: entries.collect(),
        ..AlterClientQuotasResponse::default()
    }
}

/// Why each entry is refused.
async fn alter(ctx: &Context, request: &AlterClientQuotasRequest) -> Vec<Option<Refusal>> {
    let deadline = deadline(TIMEOUT_MS);
    let wanted: Vec<_> = request.entries.iter().map(change).collect();
    let entries: Vec<_> = wanted
        .iter()
        .filter_map(|entry| entry.clone().ok())
        .collect();
    let command = Command::AlterClientQuotas(AlterClientQuotas {
        entries: entries.clone(),
        validate_only: request.validate_only,
    });
    let altered = submit(ctx, command, deadline, |response| match response {
        Response::AlterClientQuotas(response) => Some(response.entries),
        _ => None,
    });
    let decided: Vec<Option<Refusal>> = match altered.await {
        Ok(altered) => altered
            .into_iter()
            .map(|entry| entry.failure.map(Into::into))
            .collect(),
        Err(refusal) => vec![Some(refusal); entries.len()],
    };
    if !request.validate_only {
        let done = entries.iter().zip(&decided);
        let done = done.filter(|(_, refusal)| refusal.is_none());
        let done: Vec<_> = done.map(|(entry, _)| entry).collect();
        until_shown(ctx, deadline, |image| {
            done.iter().all(|entry| shows(image, entry))
        })
        .await;
    }
    let mut decided = decided.into_iter();
    let refusal = |entry: Result<_, Refusal>| match entry {
        Ok(_) => decided.next().flatten(),
        Err(refusal) => Some(refusal),
    };
    wanted.into_iter().map(refusal).collect()
}

fn shows(image: &Image, entry: &AlterClientQuota) -> bool {
    let entity = client_quota::QuotaEntity::from(entry.entity.clone());
    entry.ops.iter().all(|op| {
        let kind = client_quota::QuotaKind::from_key(&op.key);
        kind.is_some_and(|kind| image.client_quotas.get(&entity, kind) == op.value)
    })
}

fn change(entry: &AlterClientQuotasRequestEntry) -> Result<AlterClientQuota, Refusal> {
    let ops = entry.ops.iter().map(op);
    Ok(AlterClientQuota {
        entity: entity(&entry.entity)?,
        ops: ops.collect::<Result<_, _>>()?,
    })
}

fn entity(halves: &[AlterClientQuotasRequestEntity]) -> Result<QuotaEntity, Refusal> {
    let mut entity = QuotaEntity::default();
    for half in halves {
        let place = match half.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => {
                let reason = "there are no quotas for addresses";
                return Err(invalid(reason.to_owned()));
            }
            other => {
                let reason =
                    format!("{other:?} is no entity type: there are {USER} and {CLIENT_ID}");
                return Err(Refusal::new(ErrorCode::UnsupportedVersion, reason));
            }
        };
        let name = half
            .entity_name
            .as_ref()
            .map(|name| name.as_str().to_owned());
        if place.replace(QuotaEntityName { name }).is_some() {
            return Err(invalid(format!(
                "the entity has two of {:?}",
                half.entity_type.as_str()
            )));
        }
    }
    Ok(entity)
}

fn op(op: &AlterClientQuotasRequestOp) -> Result<QuotaOp, Refusal> {
    let key = op.key.as_str().to_owned();
    if op.remove {
        return Ok(QuotaOp { key, value: None });
    }
    match whole(op.value) {
        Some(value) => Ok(QuotaOp {
            key,
            value: Some(value),
        }),
        None => {
            let value = op.value.get();
            Err(invalid(format!(
                "{key} is {value}: give whole bytes per second"
            )))
        }
    }
}

/// The value when it is a whole number that Kafka's settings of this type take.
fn whole(value: Float64) -> Option<u64> {
    let value = value.get();
    let is_whole = value.trunc() == value && (0.0..VALUE_BOUND).contains(&value);
    is_whole.then_some(value as u64)
}

fn invalid(reason: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_rates() {
        for (value, rate) in [
            (0.0, Some(0)),
            (1.0, Some(1)),
            (1e18, Some(1_000_000_000_000_000_000)),
        ] {
            assert_eq!(whole(Float64::from(value)), rate, "{value}");
        }
        for value in [0.5, -1.0, f64::NAN, f64::INFINITY, VALUE_BOUND] {
            assert_eq!(whole(Float64::from(value)), None, "{value}");
        }
    }

    #[test]
    fn entities_have_one_of_each_type() {
        let half = |entity_type: &str, name: Option<&str>| AlterClientQuotasRequestEntity {
            entity_type: entity_type.to_owned().into(),
            entity_name: name.map(|name| name.to_owned().into()),
        };
        let both = entity(&[half(USER, None), half(CLIENT_ID, Some("app"))]).unwrap();
        assert_eq!(both.user, Some(QuotaEntityName { name: None }));
        assert_eq!(both.client_id.unwrap().name.as_deref(), Some("app"));
        for (halves, code) in [
            (
                vec![half(USER, None), half(USER, Some("ann"))],
                ErrorCode::InvalidRequest,
            ),
            (vec![half(IP, None)], ErrorCode::InvalidRequest),
            (vec![half("group", None)], ErrorCode::UnsupportedVersion),
        ] {
            assert_eq!(entity(&halves).unwrap_err().error_code, code);
        }
    }
}
