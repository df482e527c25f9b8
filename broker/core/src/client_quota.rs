//! Limits of what clients may send and get (KIP-13, KIP-55, KIP-546).
//!
//! A quota belongs to an entity: a user, a client id, or both; each of them by name, or the default of
//! all that have none of their own. The most specific entity that has a quota of the kind in question
//! limits a client, and those whom it limits together share it: with one for the user, all of the
//! user's clients; with one that names or means client ids, each client id on its own.

use alloc::collections::BTreeMap;
use alloc::string::String;

/// The user of a connection that nobody has authenticated.
pub const ANONYMOUS_USER: &str = "ANONYMOUS";

/// Half of a [`QuotaEntity`].
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

/// Whom quotas limit; at least one of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuotaEntity {
    pub user: Option<EntityName>,
    pub client_id: Option<EntityName>,
}

/// What a quota limits, in bytes per second and broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    /// Produce requests.
    Produce,
    /// Records in Fetch responses.
    Fetch,
}

impl QuotaKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Produce, Self::Fetch];

    /// Kafka's name of it.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
        }
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

/// Who shares a limit: all connections of the user, of the client id, or of the client id of that user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sharers {
    pub user: Option<String>,
    pub client_id: Option<String>,
}

/// The quota that limits a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLimit {
    pub sharers: Sharers,
    pub bytes_per_second: u64,
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
            };
            let entity = QuotaEntity {
                user: of_user,
                client_id: of_client,
            };
            let bytes_per_second = self.get(&entity, kind)?;
            Some(ClientLimit {
                sharers,
                bytes_per_second,
            })
        })
    }
}

/// Which entities a question is about, for one half of them.
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
            assert_eq!(limit.bytes_per_second, rate);
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
}
