//! The other brokers as gRPC peers, and which of them is the active controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::BrokerId;
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::controller_client::ControllerClient;
use klamm_proto::v1::replica_client::ReplicaClient;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::addresses::Addresses;
use super::raft::Leadership;
use crate::rpc::{self, Connection, Credentials, MESSAGE_BYTES_MAX};

/// Connections that are kept; the one to make room is an arbitrary one.
const CONNECTIONS_MAX: usize = 64;

/// See the module's documentation.
pub(crate) struct Peers {
    me: BrokerId,
    addresses: Arc<Addresses>,
    credentials: Credentials,
    /// What a member of the quorum hears by itself.
    leadership: watch::Receiver<Leadership>,
    /// What the last answer of another broker said, for when it hears nothing.
    hint: watch::Sender<Option<BrokerId>>,
    connections: Mutex<BTreeMap<String, Connection>>,
    /// Where connections are served, whoever asks for them.
    runtime: Handle,
}

impl Peers {
    /// Connections run on the current Tokio runtime.
    pub(crate) fn new(
        me: BrokerId,
        addresses: Arc<Addresses>,
        credentials: Credentials,
        leadership: watch::Receiver<Leadership>,
    ) -> Self {
        Self {
            me,
            addresses,
            credentials,
            leadership,
            hint: watch::Sender::new(None),
            connections: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// The active controller, as far as this broker knows.
    pub(crate) fn active_controller(&self) -> Option<BrokerId> {
        let heard = self.leadership.borrow().broker();
        heard.or_else(|| *self.hint.borrow())
    }

    /// Remembers what another broker knows; a member knows better by itself.
    pub(crate) fn set_hint(&self, known: Option<BrokerId>) {
        let known = known.filter(|id| *id != self.me);
        self.hint
            .send_if_modified(|hint| std::mem::replace(hint, known) != known);
    }

    /// Returns once the active controller may be another one than `than`.
    pub(crate) async fn controller_changed(&self, than: Option<BrokerId>) {
        let (mut heard, mut hints) = (self.leadership.clone(), self.hint.subscribe());
        while self.active_controller() == than {
            heard.mark_unchanged();
            hints.mark_unchanged();
            if self.active_controller() != than {
                return;
            }
            // The senders live as long as this or longer; without them nothing changes any more.
            let still_there = tokio::select! {
                changed = heard.changed() => changed.is_ok(),
                changed = hints.changed() => changed.is_ok(),
            };
            if !still_there {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The broker to ask at the `attempt`th time: the active controller if known, else as
    /// [`Peers::voter`].
    pub(crate) fn candidate(&self, attempt: usize) -> Option<BrokerId> {
        self.active_controller().or_else(|| self.voter(attempt))
    }

    /// The voters in turn, and now and then another broker, which may know of newer ones.
    pub(crate) fn voter(&self, attempt: usize) -> Option<BrokerId> {
        self.addresses.candidate(attempt)
    }

    /// A client for `broker`, `None` when its address is not known.
    pub(crate) fn client(&self, broker: BrokerId) -> Option<ControllerClient<Connection>> {
        let connection = self.connection(self.addresses.address(broker)?)?;
        Some(
            ControllerClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// As [`Peers::client`], for what the operator asks.
    pub(crate) fn admin_client(&self, broker: BrokerId) -> Option<AdminClient<Connection>> {
        let connection = self.connection(self.addresses.address(broker)?)?;
        Some(
            AdminClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// As [`Peers::client`], for what brokers ask of leaders.
    pub(crate) fn replica_client(&self, broker: BrokerId) -> Option<ReplicaClient<Connection>> {
        let connection = self.connection(self.addresses.address(broker)?)?;
        Some(ReplicaClient::new(connection).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn connection(&self, address: String) -> Option<Connection> {
        let mut connections = self.connections.lock();
        if let Some(connection) = connections.get(&address) {
            return Some(connection.clone());
        }
        let _runtime = self.runtime.enter();
        match rpc::connect(&address, &self.credentials) {
            Ok(connection) => {
                if connections.len() >= CONNECTIONS_MAX {
                    connections.pop_first();
                }
                connections.insert(address, connection.clone());
                Some(connection)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot connect to a broker");
                None
            }
        }
    }
}
