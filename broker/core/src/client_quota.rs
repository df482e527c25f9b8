//! Limits of what clients may send, get and have done (KIP-13, KIP-55, KIP-124, KIP-546, KIP-599, KIP-612).
//!
//! A quota belongs to an entity: a user, a client id, or both; or an IP address. Each of them by name,
//! or the default of all that have none of their own. The most specific entity that has a quota of the
//! kind in question limits a client, and those whom it limits together share it: with one for the
//! user, all of the user's clients; with one that names or means client ids, each client id on its
//! own.

use alloc::collections::BTreeMap;
use alloc::string::String;

/// The user of a connection that nobody has authenticated.
pub const ANONYMOUS_USER: &str = "ANONYMOUS";

/// Part of a [`QuotaEntity`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityName {
    /// Everybody who has no quota by name.
    Default,
    Named(String),
}

impl EntityName {
    fn is(&self, name: &str) -> bool {
        matches!(self, Self::Named(named) if named == name)
    }
}

/// Whom quotas limit: an address alone, or a user, a client id or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    pub user: Option<EntityName>,
    pub client_id: Option<EntityName>,
    pub ip: Option<EntityName>,
}

/// What a quota limits, per second and broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    /// Bytes of Produce requests.
    Produce,
    /// Bytes of records in Fetch responses.
    Fetch,
    /// Time that requests keep a thread busy, in nanoseconds.
    Request,
    /// Partitions that are created and deleted, in thousandths.
    ControllerMutation,
    /// Connections of an IP address.
    ConnectionCreation,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Produce,
        Self::Fetch,
        Self::Request,
        Self::ControllerMutation,
        Self::ConnectionCreation,
    ];

    /// Kafka's name of it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
            Self::ControllerMutation => "controller_mutation_rate",
            Self::ConnectionCreation => "connection_creation_rate",
        }
    }

    /// What 1 means in Kafka's unit of it, in ours: for the time of requests that is a percent of a
    /// thread.
    #[must_use]
    pub const fn unit(self) -> u64 {
        match self {
            Self::Request => 10_000_000,
            Self::ControllerMutation => 1_000,
            Self::Produce | Self::Fetch | Self::ConnectionCreation => 1,
        }
    }

    /// Whether `entity` can have a quota of this kind.
    #[must_use]
    pub const fn limits(self, entity: &QuotaEntity) -> bool {
        matches!(self, Self::ConnectionCreation) == entity.ip.is_some()
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

/// The quotas of all entities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientQuotas {
    entities: BTreeMap<QuotaEntity, BTreeMap<QuotaKind, u64>>,
}

/// Who shares a limit: all connections of the user, of the client id, or of the client id of that user;
/// or those from the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharers {
    pub user: Option<String>,
    pub client_id: Option<String>,
    pub ip: Option<String>,
}

/// The quota that limits a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimit {
    pub sharers: Sharers,
    /// As the [`QuotaKind`] counts.
    pub per_second: u64,
}

impl ClientQuotas {
    /// Whether nobody is limited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Number of entities with quotas.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entities.len()
    }

    /// The entities with their quotas, of which each has at least one.
    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &BTreeMap<QuotaKind, u64>)> {
        self.entities.iter()
    }

    /// What `entity` has.
    #[must_use]
    pub fn get(&self, entity: &QuotaEntity, kind: QuotaKind) -> Option<u64> {
        self.entities.get(entity)?.get(&kind).copied()
    }

    /// Sets a quota, `None` removes it.
    pub fn set(&mut self, entity: QuotaEntity, kind: QuotaKind, value: Option<u64>) {
        let Some(value) = value else {
            if let Some(quotas) = self.entities.get_mut(&entity) {
                quotas.remove(&kind);
                if quotas.is_empty() {
                    self.entities.remove(&entity);
                }
            }
            return;
        };
        self.entities.entry(entity).or_default().insert(kind, value);
    }

    /// The quota of `kind` that limits client `client_id` of `user`, in the order of KIP-55.
    #[must_use]
    pub fn limit(&self, kind: QuotaKind, user: &str, client_id: &str) -> Option<ClientLimit> {
        let named = |name: &str| Some(EntityName::Named(name.into()));
        let default = || Some(EntityName::Default);
        let candidates = [
            (named(user), named(client_id)),
            (named(user), default()),
            (named(user), None),
            (default(), named(client_id)),
            (default(), default()),
            (default(), None),
            (None, named(client_id)),
            (None, default()),
        ];
        candidates.into_iter().find_map(|(of_user, of_client)| {
            let sharers = Sharers {
                user: of_user.is_some().then(|| user.into()),
                client_id: of_client.is_some().then(|| client_id.into()),
                ip: None,
            };
            let entity = QuotaEntity {
                user: of_user,
                client_id: of_client,
                ip: None,
            };
            let per_second = self.get(&entity, kind)?;
            Some(ClientLimit {
                sharers,
                per_second,
            })
        })
    }

    /// What limits the connections that come from `ip`.
    #[must_use]
    pub fn connection_limit(&self, ip: &str) -> Option<ClientLimit> {
        let candidates = [EntityName::Named(ip.into()), EntityName::Default];
        candidates.into_iter().find_map(|name| {
            let entity = QuotaEntity {
                ip: Some(name),
                ..QuotaEntity::default()
            };
            let per_second = self.get(&entity, QuotaKind::ConnectionCreation)?;
            Some(ClientLimit {
                sharers: Sharers {
                    ip: Some(ip.into()),
                    ..Sharers::default()
                },
                per_second,
            })
        })
    }
}

/// Which entities a question is about, for one part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntityMatch {
    Exact(String),
    Default,
    /// Any name, and the default.
    Any,
}

impl EntityMatch {
    /// Whether an entity that has this name is meant.
    #[must_use]
    pub fn matches(&self, name: Option<&EntityName>) -> bool {
        match (self, name) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Default, Some(name)) => *name == EntityName::Default,
            (Self::Exact(wanted), Some(name)) => name.is(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entity(user: Option<&str>, client_id: Option<&str>) -> QuotaEntity {
        let name = |name: &str| match name {
            "*" => EntityName::Default,
            name => EntityName::Named(name.into()),
        };
        QuotaEntity {
            user: user.map(name),
            client_id: client_id.map(name),
            ip: None,
        }
    }

    #[test]
    fn the_most_specific_quota_limits() {
        // From the most to the least specific, each with those who share it.
        let order = [
            (Some("ann"), Some("app"), Some("ann"), Some("app")),
            (Some("ann"), Some("*"), Some("ann"), Some("app")),
            (Some("ann"), None, Some("ann"), None),
            (Some("*"), Some("app"), Some("ann"), Some("app")),
            (Some("*"), Some("*"), Some("ann"), Some("app")),
            (Some("*"), None, Some("ann"), None),
            (None, Some("app"), None, Some("app")),
            (None, Some("*"), None, Some("app")),
        ];
        let mut quotas = ClientQuotas::default();
        for (rate, (user, client_id, ..)) in (1..).zip(order) {
            quotas.set(entity(user, client_id), QuotaKind::Produce, Some(rate));
        }
        for (rate, (user, client_id, of_user, of_client)) in (1..).zip(order) {
            let limit = quotas.limit(QuotaKind::Produce, "ann", "app").unwrap();
            assert_eq!(limit.per_second, rate);
            assert_eq!(limit.sharers.user.as_deref(), of_user);
            assert_eq!(limit.sharers.client_id.as_deref(), of_client);
            assert_eq!(quotas.limit(QuotaKind::Fetch, "ann", "app"), None);
            quotas.set(entity(user, client_id), QuotaKind::Produce, None);
        }
        assert!(quotas.is_empty());
    }

    #[test]
    fn quotas_of_others_do_not_limit() {
        let mut quotas = ClientQuotas::default();
        quotas.set(entity(Some("bob"), None), QuotaKind::Fetch, Some(1));
        quotas.set(entity(None, Some("other")), QuotaKind::Fetch, Some(1));
        quotas.set(entity(Some("bob"), Some("app")), QuotaKind::Fetch, Some(1));
        assert_eq!(quotas.limit(QuotaKind::Fetch, "ann", "app"), None);
    }

    #[test]
    fn addresses_are_limited_by_name_or_by_default() {
        let mut quotas = ClientQuotas::default();
        let of = |name| QuotaEntity {
            ip: Some(name),
            ..QuotaEntity::default()
        };
        let kind = QuotaKind::ConnectionCreation;
        quotas.set(of(EntityName::Named("10.0.0.1".into())), kind, Some(5));
        let per_second = |quotas: &ClientQuotas, ip| {
            let limit = quotas.connection_limit(ip)?;
            assert_eq!(limit.sharers.ip.as_deref(), Some(ip));
            Some(limit.per_second)
        };
        assert_eq!(per_second(&quotas, "10.0.0.1"), Some(5));
        assert_eq!(per_second(&quotas, "10.0.0.2"), None);
        quotas.set(of(EntityName::Default), kind, Some(7));
        assert_eq!(per_second(&quotas, "10.0.0.1"), Some(5));
        assert_eq!(per_second(&quotas, "10.0.0.2"), Some(7));
    }
}
