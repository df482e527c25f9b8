//! The other brokers as gRPC peers, and which of them is the active controller.

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::BrokerId;
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::controller_client::ControllerClient;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::feed::Feed;
use super::raft::Leadership;
use crate::rpc::{self, Connection, MESSAGE_BYTES_MAX, Token};

/// Connections that are kept; the one to make room is an arbitrary one.
const CONNECTIONS_MAX: usize = 64;

/// See the module's documentation.
pub(crate) struct Peers {
    voters: BTreeMap<BrokerId, String>,
    token: Token,
    feed: Arc<Feed>,
    /// On a voter: who leads the quorum.
    leadership: Option<watch::Receiver<Leadership>>,
    /// Elsewhere: what the last answer said.
    hint: watch::Sender<Option<BrokerId>>,
    connections: Mutex<BTreeMap<String, Connection>>,
    /// Where connections are served, whoever asks for them.
    runtime: Handle,
}

impl Peers {
    /// Connections run on the current Tokio runtime.
    pub(crate) fn new(
        voters: BTreeMap<BrokerId, String>,
        token: Token,
        feed: Arc<Feed>,
        leadership: Option<watch::Receiver<Leadership>>,
    ) -> Self {
        Self {
            voters,
            token,
            feed,
            leadership,
            hint: watch::Sender::new(None),
            connections: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// The active controller, as far as this broker knows.
    pub(crate) fn active_controller(&self) -> Option<BrokerId> {
        match &self.leadership {
            Some(leadership) => leadership.borrow().broker(),
            None => *self.hint.borrow(),
        }
    }

    /// Remembers what another broker knows; a voter knows better by itself.
    pub(crate) fn set_hint(&self, known: Option<BrokerId>) {
        self.hint
            .send_if_modified(|hint| std::mem::replace(hint, known) != known);
    }

    /// Returns once the active controller may be another one than `than`.
    pub(crate) async fn controller_changed(&self, than: Option<BrokerId>) {
        // The senders live as long as this or longer; without them nothing changes any more.
        let gone = match &self.leadership {
            Some(leadership) => leadership
                .clone()
                .wait_for(|now| now.broker() != than)
                .await
                .is_err(),
            None => self
                .hint
                .subscribe()
                .wait_for(|now| *now != than)
                .await
                .is_err(),
        };
        if gone {
            std::future::pending::<()>().await;
        }
    }

    /// The broker to ask at the `attempt`th time: the active controller if known, else the voters
    /// in turn.
    pub(crate) fn candidate(&self, attempt: usize) -> Option<BrokerId> {
        self.active_controller().or_else(|| self.voter(attempt))
    }

    /// The voters in turn.
    pub(crate) fn voter(&self, attempt: usize) -> Option<BrokerId> {
        let count = self.voters.len().max(1);
        self.voters.keys().nth(attempt % count).copied()
    }

    /// A client for `broker`, `None` when its address is not known.
    pub(crate) fn client(&self, broker: BrokerId) -> Option<ControllerClient<Connection>> {
        let connection = self.connection(self.address(broker)?)?;
        Some(
            ControllerClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// As [`Peers::client`], for what the operator asks.
    pub(crate) fn admin_client(&self, broker: BrokerId) -> Option<AdminClient<Connection>> {
        let connection = self.connection(self.address(broker)?)?;
        Some(
            AdminClient::new(connection)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    fn address(&self, broker: BrokerId) -> Option<String> {
        if let Some(address) = self.voters.get(&broker) {
            return Some(address.clone());
        }
        let image = self.feed.position().image;
        let broker = image.brokers.get(&broker)?;
        Some(format!("{}:{}", broker.rpc_host, broker.rpc_port))
    }

    fn connection(&self, address: String) -> Option<Connection> {
        let mut connections = self.connections.lock();
        if let Some(connection) = connections.get(&address) {
            return Some(connection.clone());
        }
        let _runtime = self.runtime.enter();
        match rpc::connect(&address, &self.token) {
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
