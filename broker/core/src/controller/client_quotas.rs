//! Limits of clients (KIP-546).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

use super::command::{AlterClientQuota, AlterClientQuotas, QuotaOp};
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::response::{AlterClientQuotasResponse, ClientQuotaAltered, Response};
use crate::client_quota::{self, QuotaKind};
use crate::metadata::{ClientQuota, Image, QuotaEntity, Record};

/// Entities with quotas in a cluster.
pub const CLIENT_QUOTAS_MAX: usize = 10_000;
/// Length of a user or client id that a quota can name.
pub const QUOTA_ENTITY_NAME_BYTES_MAX: usize = 1_024;

pub(super) fn alter(draft: &mut Draft, command: &AlterClientQuotas) -> Response {
    let mut seen = BTreeSet::new();
    let entries = command.entries.iter().map(|entry| {
        let entity = client_quota::QuotaEntity::from(entry.entity.clone());
        let outcome = if seen.insert(entity) {
            alter_one(draft, entry)
        } else {
            Err(invalid("the request names the entity twice".into()))
        };
        ClientQuotaAltered {
            failure: outcome.err(),
        }
    });
    let response = AlterClientQuotasResponse {
        entries: entries.collect(),
    };
    if command.validate_only {
        draft.discard_records();
    }
    Response::AlterClientQuotas(response)
}

fn alter_one(draft: &mut Draft, entry: &AlterClientQuota) -> Result<(), Failure> {
    check_entity(&entry.entity)?;
    let mut named = BTreeSet::new();
    for op in &entry.ops {
        check_op(op)?;
        if !named.insert(&op.key) {
            return Err(invalid(format!("the request names {} twice", op.key)));
        }
    }
    let sets = entry.ops.iter().any(|op| op.value.is_some());
    if sets && is_full(draft.image(), &entry.entity) {
        return Err(Failure::new(
            CommandError::LimitExceeded,
            format!("{CLIENT_QUOTAS_MAX} users and client ids have quotas; remove some first"),
        ));
    }
    for op in &entry.ops {
        draft.push(Record::ClientQuota(ClientQuota {
            entity: entry.entity.clone(),
            key: op.key.clone(),
            value: op.value,
        }));
    }
    Ok(())
}

fn check_entity(entity: &QuotaEntity) -> Result<(), Failure> {
    if entity.user.is_none() && entity.client_id.is_none() {
        return Err(invalid("name a user, a client id or both".into()));
    }
    let names = [&entity.user, &entity.client_id].into_iter().flatten();
    for name in names.filter_map(|name| name.name.as_ref()) {
        if name.is_empty() {
            return Err(invalid("a user or client id is empty".into()));
        }
        if name.len() > QUOTA_ENTITY_NAME_BYTES_MAX {
            return Err(invalid(format!(
                "a user or client id is longer than {QUOTA_ENTITY_NAME_BYTES_MAX} bytes"
            )));
        }
    }
    Ok(())
}

fn check_op(op: &QuotaOp) -> Result<(), Failure> {
    if QuotaKind::from_key(&op.key).is_none() {
        let [produce, fetch] = QuotaKind::ALL.map(QuotaKind::key);
        return Err(invalid(format!(
            "{:?} is no quota of Klamm: there are {produce} and {fetch}",
            op.key
        )));
    }
    if op.value == Some(0) {
        return Err(invalid(format!("{} must be at least 1", op.key)));
    }
    Ok(())
}

fn is_full(image: &Image, entity: &QuotaEntity) -> bool {
    let quotas = &image.client_quotas;
    let entity = entity.clone().into();
    let known = |kind| quotas.get(&entity, kind).is_some();
    quotas.len() >= CLIENT_QUOTAS_MAX && !QuotaKind::ALL.into_iter().any(known)
}

fn invalid(reason: String) -> Failure {
    Failure::new(CommandError::InvalidRequest, reason)
}
