//! Limits of clients (KIP-546).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::command::{AlterClientQuota, AlterClientQuotas, QuotaOp};
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::response::{AlterClientQuotasResponse, ClientQuotaAltered, Response};
use crate::client_quota::{self, QuotaKind};
use crate::metadata::{ClientQuota, Image, QuotaEntity, Record};

/// Entities with quotas in a cluster.
pub const CLIENT_QUOTAS_MAX: usize = 10_000;
/// Length of a user, client id or address that a quota can name.
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
        check_op(&entry.entity, op)?;
        if !named.insert(&op.key) {
            return Err(invalid(format!("the request names {} twice", op.key)));
        }
    }
    let sets = entry.ops.iter().any(|op| op.value.is_some());
    if sets && is_full(draft.image(), &entry.entity) {
        return Err(Failure::new(
            CommandError::LimitExceeded,
            format!("{CLIENT_QUOTAS_MAX} entities have quotas; remove some first"),
        ));
    }
    for op in &entry.ops {
        if current(draft.image(), &entry.entity, &op.key) != op.value {
            draft.push(Record::ClientQuota(ClientQuota {
                entity: entry.entity.clone(),
                key: op.key.clone(),
                value: op.value,
            }));
        }
    }
    Ok(())
}

fn check_entity(entity: &QuotaEntity) -> Result<(), Failure> {
    let parts = [&entity.user, &entity.client_id, &entity.ip];
    let of_client = entity.user.is_some() || entity.client_id.is_some();
    if of_client == entity.ip.is_some() {
        let reason = "name a user, a client id or both; or an address alone";
        return Err(invalid(reason.into()));
    }
    for name in parts.into_iter().flatten().filter_map(|p| p.name.as_ref()) {
        if name.is_empty() {
            return Err(invalid("a user, client id or address is empty".into()));
        }
        if name.len() > QUOTA_ENTITY_NAME_BYTES_MAX {
            return Err(invalid(format!(
                "a user, client id or address is longer than {QUOTA_ENTITY_NAME_BYTES_MAX} bytes"
            )));
        }
    }
    let ip = entity.ip.as_ref().and_then(|ip| ip.name.as_ref());
    match ip.filter(|ip| ip.parse::<IpAddr>().is_err()) {
        Some(ip) => Err(invalid(format!("{ip:?} is not an IP address"))),
        None => Ok(()),
    }
}

fn check_op(entity: &QuotaEntity, op: &QuotaOp) -> Result<(), Failure> {
    let entity = client_quota::QuotaEntity::from(entity.clone());
    let kinds = QuotaKind::ALL
        .into_iter()
        .filter(|kind| kind.limits(&entity));
    let keys: Vec<_> = kinds.map(QuotaKind::key).collect();
    if !keys.contains(&op.key.as_str()) {
        return Err(invalid(format!(
            "{:?} is no quota of such an entity: there are {}",
            op.key,
            keys.join(", ")
        )));
    }
    if op.value == Some(0) {
        return Err(invalid(format!("{} is too small", op.key)));
    }
    Ok(())
}

fn is_full(image: &Image, entity: &QuotaEntity) -> bool {
    let quotas = &image.client_quotas;
    let entity = entity.clone().into();
    let known = |kind| quotas.get(&entity, kind).is_some();
    quotas.len() >= CLIENT_QUOTAS_MAX && !QuotaKind::ALL.into_iter().any(known)
}

fn current(image: &Image, entity: &QuotaEntity, key: &str) -> Option<u64> {
    let kind = QuotaKind::from_key(key)?;
    image.client_quotas.get(&entity.clone().into(), kind)
}

fn invalid(reason: String) -> Failure {
    Failure::new(CommandError::InvalidRequest, reason)
}
