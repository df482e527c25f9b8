//! What a handler has to work with: the broker's parts, and who asks.

use std::sync::Arc;
use std::time::Duration;

use broker_core::fetch_session::FetchSessions;
use broker_core::metadata::Image;
use broker_core::{ProducerId, TopicId};
use broker_wire::{ErrorCode, Str, Uuid};
use parking_lot::Mutex;

use super::init_producer_id::ProducerIds;
use crate::client_quotas::ClientQuotas;
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::coordinator::{Client, GroupCoordinator};
use crate::partition::PartitionManager;
use crate::transaction::{Peers, TransactionCoordinator};

/// Fetch sessions at a time; `max.incremental.fetch.session.cache.slots` of Kafka.
const FETCH_SESSIONS_MAX: usize = 1000;

/// The parts of this broker that requests are answered from.
pub struct Context {
    pub config: Arc<BrokerConfig>,
    pub controller: Arc<Controller>,
    pub partitions: Arc<PartitionManager>,
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    pub transaction_peers: Arc<Peers>,
    pub producer_ids: ProducerIds,
    /// Incremental fetch sessions (KIP-227), shared by all connections.
    pub fetch_sessions: Mutex<FetchSessions>,
    pub client_quotas: ClientQuotas,
}

/// The coordinators of groups and transactions, and what the latter reach other brokers by.
#[derive(Clone)]
pub struct Coordinators {
    pub groups: Arc<GroupCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    pub transaction_peers: Arc<Peers>,
}

impl Context {
    /// Puts the broker's parts together.
    #[must_use]
    pub fn new(
        config: Arc<BrokerConfig>,
        controller: Arc<Controller>,
        partitions: Arc<PartitionManager>,
        coordinators: Coordinators,
    ) -> Self {
        let Coordinators {
            groups,
            transactions,
            transaction_peers,
        } = coordinators;
        Self {
            config,
            controller,
            partitions,
            groups,
            transactions,
            transaction_peers,
            producer_ids: ProducerIds::default(),
            fetch_sessions: Mutex::new(FetchSessions::new(FETCH_SESSIONS_MAX)),
            client_quotas: ClientQuotas::default(),
        }
    }

    /// A producer id that nobody has had.
    ///
    /// # Errors
    /// What Kafka says while it waits for a block of them; producers try again.
    pub(super) async fn next_producer_id(&self) -> Result<ProducerId, ErrorCode> {
        let next = self.producer_ids.next(&self.config, &self.controller).await;
        next.ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// The newest metadata that this broker knows.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.controller.image()
    }

    /// Awaits `serving`, the answer to a request. Returns how long the connection shall not be
    /// listened to for the time that it kept a thread busy (KIP-124).
    pub(super) async fn time<T>(
        &self,
        info: &RequestInfo,
        serving: impl Future<Output = T>,
    ) -> (T, Duration) {
        let quotas = Arc::clone(&self.image().client_quotas);
        let timed = self.client_quotas.time(&quotas, info.client_id(), serving);
        timed.await
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
