//! What a handler has to work with: the broker's parts, and who asks.

use std::sync::Arc;

use broker_core::TopicId;
use broker_core::fetch_session::FetchSessions;
use broker_core::metadata::Image;
use broker_wire::{Str, Uuid};
use parking_lot::Mutex;

use super::init_producer_id::ProducerIds;
use crate::client_quotas::ClientQuotas;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::coordinator::{Client, GroupCoordinator};
use crate::partition::PartitionManager;

/// Fetch sessions at a time; `max.incremental.fetch.session.cache.slots` of Kafka.
const FETCH_SESSIONS_MAX: usize = 1000;

/// The parts of this broker that requests are answered from.
pub struct Context {
    pub config: Arc<BrokerConfig>,
    pub controller: Arc<Controller>,
    pub partitions: Arc<PartitionManager>,
    pub groups: Arc<GroupCoordinator>,
    pub producer_ids: ProducerIds,
    /// Incremental fetch sessions (KIP-227), shared by all connections.
    pub fetch_sessions: Mutex<FetchSessions>,
    pub client_quotas: ClientQuotas,
}

impl Context {
    /// Puts the broker's parts together.
    #[must_use]
    pub fn new(
        config: Arc<BrokerConfig>,
        controller: Arc<Controller>,
        partitions: Arc<PartitionManager>,
        groups: Arc<GroupCoordinator>,
    ) -> Self {
        Self {
            config,
            controller,
            partitions,
            groups,
            producer_ids: ProducerIds::default(),
            fetch_sessions: Mutex::new(FetchSessions::new(FETCH_SESSIONS_MAX)),
            client_quotas: ClientQuotas::default(),
        }
    }

    /// The newest metadata that this broker knows.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.controller.image()
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// IP address of the client.
    pub host: Arc<str>,
    /// Name of the listener that the client is connected to.
    pub listener: Arc<str>,
}

/// Who sent a request, and in which version of its API.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Version of the request and of its response.
    pub version: i16,
    /// What the client calls itself. Holds no part of the request's frame.
    pub client_id: Option<Str>,
    /// IP address of the client.
    pub client_host: Arc<str>,
    /// Name of the listener that the client is connected to; it gets the brokers' addresses of the
    /// same listener.
    pub listener: Arc<str>,
}

impl RequestInfo {
    /// What the client calls itself, empty for nothing.
    pub(super) fn client_id(&self) -> &str {
        self.client_id.as_deref().unwrap_or_default()
    }

    /// The sender as descriptions of groups have it.
    pub(super) fn client(&self) -> Client {
        Client {
            id: self.client_id().to_owned(),
            // The form in which Java prints an address, and Kafka's tools show it.
            host: format!("/{}", self.client_host),
        }
    }
}

/// The topic id of a request, which is never "not given" in the versions that have it.
pub(super) const fn topic_id(id: Uuid) -> TopicId {
    TopicId(id.into_bytes())
}

/// The topic id in a response.
pub(super) const fn wire_id(id: TopicId) -> Uuid {
    Uuid::from_bytes(id.0)
}
