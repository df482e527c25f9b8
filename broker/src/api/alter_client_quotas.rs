//! AlterClientQuotas (KIP-546): sets and removes limits of clients.

use broker_core::client_quota::{self, QuotaKind};
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
/// Entity type of an IP address.
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
        let kind = QuotaKind::from_key(&op.key);
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

fn entity(parts: &[AlterClientQuotasRequestEntity]) -> Result<QuotaEntity, Refusal> {
    let mut entity = QuotaEntity::default();
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return Err(unknown_type(other)),
        };
        let name = part
            .entity_name
            .as_ref()
            .map(|name| name.as_str().to_owned());
        if place.replace(QuotaEntityName { name }).is_some() {
            return Err(invalid(format!(
                "the entity has two of {:?}",
                part.entity_type.as_str()
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
    let unit = QuotaKind::from_key(&key).map_or(1, QuotaKind::unit);
    match in_units(op.value, unit) {
        Some(value) => Ok(QuotaOp {
            key,
            value: Some(value),
        }),
        None => {
            let value = op.value.get();
            let wanted = if unit == 1 {
                "a whole number"
            } else {
                "a number"
            };
            Err(invalid(format!("{key} is {value}: give {wanted}")))
        }
    }
}

/// The value in the unit in which it is kept. What is finer than that is rounded, unless it is Kafka's
/// unit, in which only whole numbers are allowed.
fn in_units(value: Float64, unit: u64) -> Option<u64> {
    let scaled = value.get() * unit as f64;
    let fits = (0.0..VALUE_BOUND).contains(&scaled) && (unit > 1 || scaled.trunc() == scaled);
    fits.then_some(scaled.round() as u64)
}

pub(super) fn unknown_type(entity_type: &str) -> Refusal {
    let reason =
        format!("{entity_type:?} is no entity type: there are {USER}, {CLIENT_ID} and {IP}");
    Refusal::new(ErrorCode::UnsupportedVersion, reason)
}

pub(super) fn invalid(reason: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kept_in_their_units() {
        for (value, unit, rate) in [
            (0.0, 1, Some(0)),
            (1.0, 1, Some(1)),
            (1e18, 1, Some(1_000_000_000_000_000_000)),
            (0.5, 1, None),
            (0.5, 1_000, Some(500)),
            (0.1, 10_000_000, Some(1_000_000)),
            (1e18, 1_000, None),
        ] {
            assert_eq!(in_units(Float64::from(value), unit), rate, "{value}");
        }
        for value in [-1.0, f64::NAN, f64::INFINITY, VALUE_BOUND] {
            for unit in [1, 1_000] {
                assert_eq!(in_units(Float64::from(value), unit), None, "{value}");
            }
        }
    }

    #[test]
    fn entities_have_one_of_each_type() {
        let part = |entity_type: &str, name: Option<&str>| AlterClientQuotasRequestEntity {
            entity_type: entity_type.to_owned().into(),
            entity_name: name.map(|name| name.to_owned().into()),
        };
        let both = entity(&[part(USER, None), part(CLIENT_ID, Some("app"))]).unwrap();
        assert_eq!(both.user, Some(QuotaEntityName { name: None }));
        assert_eq!(both.client_id.unwrap().name.as_deref(), Some("app"));
        let address = entity(&[part(IP, Some("10.0.0.1"))]).unwrap().ip;
        assert_eq!(address.unwrap().name.as_deref(), Some("10.0.0.1"));
        for (parts, code) in [
            (
                vec![part(USER, None), part(USER, Some("ann"))],
                ErrorCode::InvalidRequest,
            ),
            (vec![part("group", None)], ErrorCode::UnsupportedVersion),
        ] {
            assert_eq!(entity(&parts).unwrap_err().error_code, code);
        }
    }
}
