//! DescribeClientQuotas (KIP-546): the limits of clients, as the metadata have them.

use std::collections::BTreeMap;

use broker_core::client_quota::{EntityMatch, EntityName, QuotaEntity, QuotaKind};
use broker_wire::message::describe_client_quotas::{
    DescribeClientQuotasRequestComponent, DescribeClientQuotasResponseEntity,
    DescribeClientQuotasResponseEntry, DescribeClientQuotasResponseValue, MATCH_ANY, MATCH_DEFAULT,
    MATCH_EXACT,
};
use broker_wire::message::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use broker_wire::{Float64, Str};

use super::alter_client_quotas::{CLIENT_ID, IP, USER, invalid, unknown_type};
use super::context::{Context, RequestInfo};
use super::create_topics::Refusal;

pub(super) async fn handle(
    ctx: &Context,
    _info: &RequestInfo,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let filter = match Filter::new(&request.components, request.strict) {
        Ok(filter) => filter,
        Err(refusal) => {
            return DescribeClientQuotasResponse {
                error_code: refusal.error_code,
                error_message: Some(refusal.message),
                ..DescribeClientQuotasResponse::default()
            };
        }
    };
    let image = ctx.image();
    let quotas = image.client_quotas.iter();
    let wanted = quotas.filter(|(entity, _)| filter.matches(entity));
    DescribeClientQuotasResponse {
        entries: Some(
            wanted
                .map(|(entity, values)| entry(entity, values))
                .collect(),
        ),
        ..DescribeClientQuotasResponse::default()
    }
}

/// Which entities are asked for.
#[derive(Debug, Default)]
struct Filter {
    user: Option<EntityMatch>,
    client_id: Option<EntityMatch>,
    ip: Option<EntityMatch>,
    strict: bool,
}

impl Filter {
    fn new(
        components: &[DescribeClientQuotasRequestComponent],
        strict: bool,
    ) -> Result<Self, Refusal> {
        let mut filter = Self {
            strict,
            ..Self::default()
        };
        for component in components {
            let entity_type = component.entity_type.as_str();
            let wanted = entity_match(component)?;
            let place = match entity_type {
                USER => &mut filter.user,
                CLIENT_ID => &mut filter.client_id,
                IP => &mut filter.ip,
                other => return Err(unknown_type(other)),
            };
            if place.replace(wanted).is_some() {
                let reason = format!("the filter has two of {entity_type:?}");
                return Err(invalid(reason));
            }
        }
        Ok(filter)
    }

    fn matches(&self, entity: &QuotaEntity) -> bool {
        let part = |wanted: &Option<EntityMatch>, name: &Option<EntityName>| match wanted {
            Some(wanted) => wanted.matches(name.as_ref()),
            None => !self.strict || name.is_none(),
        };
        // Without components, strict or not, all are asked for.
        let all = self.user.is_none() && self.client_id.is_none() && self.ip.is_none();
        all || part(&self.user, &entity.user)
            && part(&self.client_id, &entity.client_id)
            && part(&self.ip, &entity.ip)
    }
}

fn entity_match(component: &DescribeClientQuotasRequestComponent) -> Result<EntityMatch, Refusal> {
    match (component.match_type, &component.r#match) {
        (MATCH_EXACT, Some(name)) => Ok(EntityMatch::Exact(name.as_str().to_owned())),
        (MATCH_DEFAULT, None) => Ok(EntityMatch::Default),
        (MATCH_ANY, None) => Ok(EntityMatch::Any),
        (other, _) => {
            let reason = format!(
                "match type {other}: give 0 with a name, or 1 (default) or 2 (any) without one"
            );
            Err(invalid(reason))
        }
    }
}

fn entry(
    entity: &QuotaEntity,
    values: &BTreeMap<QuotaKind, u64>,
) -> DescribeClientQuotasResponseEntry {
    let parts = [
        (USER, &entity.user),
        (CLIENT_ID, &entity.client_id),
        (IP, &entity.ip),
    ];
    let parts = parts.into_iter().filter_map(|(entity_type, name)| {
        let entity_name = match name.as_ref()? {
            EntityName::Default => None,
            EntityName::Named(name) => Some(Str::from(name.clone())),
        };
        Some(DescribeClientQuotasResponseEntity {
            entity_type: Str::from(entity_type.to_owned()),
            entity_name,
        })
    });
    let values = values
        .iter()
        .map(|(kind, value)| DescribeClientQuotasResponseValue {
            key: Str::from(kind.key().to_owned()),
            value: Float64::from(*value as f64 / kind.unit() as f64),
        });
    DescribeClientQuotasResponseEntry {
        entity: parts.collect(),
        values: values.collect(),
    }
}

#[cfg(test)]
mod tests {
    use broker_wire::ErrorCode;

    use super::*;

    fn component(
        entity_type: &str,
        match_type: i8,
        name: Option<&str>,
    ) -> DescribeClientQuotasRequestComponent {
        DescribeClientQuotasRequestComponent {
            entity_type: entity_type.to_owned().into(),
            match_type,
            r#match: name.map(|name| name.to_owned().into()),
        }
    }

    #[test]
    fn filters_pass_what_kafka_describes() {
        let named = |name: &str| Some(EntityName::Named(name.to_owned()));
        let [ann, ann_app, app, all_apps] = [
            (named("ann"), None),
            (named("ann"), named("app")),
            (None, named("app")),
            (None, Some(EntityName::Default)),
        ]
        .map(|(user, client_id)| QuotaEntity {
            user,
            client_id,
            ip: None,
        });
        let address = QuotaEntity {
            ip: named("10.0.0.1"),
            ..QuotaEntity::default()
        };
        let entities = [&ann, &ann_app, &app, &all_apps, &address];
        let of_ann = || component(USER, MATCH_EXACT, Some("ann"));
        let any_client = || component(CLIENT_ID, MATCH_ANY, None);
        for (components, strict, expected) in [
            (vec![], false, [true; 5]),
            (vec![], true, [true; 5]),
            (vec![of_ann()], false, [true, true, false, false, false]),
            (vec![of_ann()], true, [true, false, false, false, false]),
            (vec![any_client()], true, [false, false, true, true, false]),
            (
                vec![of_ann(), any_client()],
                true,
                [false, true, false, false, false],
            ),
            (
                vec![component(CLIENT_ID, MATCH_DEFAULT, None)],
                false,
                [false, false, false, true, false],
            ),
            (
                vec![component(IP, MATCH_ANY, None)],
                false,
                [false, false, false, false, true],
            ),
        ] {
            let filter = Filter::new(&components, strict).unwrap();
            let found = entities.map(|entity| filter.matches(entity));
            assert_eq!(found, expected, "{components:?}, strict: {strict}");
        }
        for (components, code) in [
            (vec![of_ann(), of_ann()], ErrorCode::InvalidRequest),
            (
                vec![component(USER, MATCH_EXACT, None)],
                ErrorCode::InvalidRequest,
            ),
            (vec![component(USER, 3, None)], ErrorCode::InvalidRequest),
            (
                vec![component("group", MATCH_ANY, None)],
                ErrorCode::UnsupportedVersion,
            ),
        ] {
            let refusal = Filter::new(&components, false).unwrap_err();
            assert_eq!(refusal.error_code, code, "{components:?}");
        }
    }
}
