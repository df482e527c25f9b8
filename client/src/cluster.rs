//! The way to brokers: connections that are kept, and who is asked for what.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use broker_wire::Str;
use broker_wire::message::metadata::MetadataRequestTopic;
use broker_wire::message::{FindCoordinatorRequest, MetadataRequest, RequestMessage};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::error::{ClientError, check};
use crate::metadata::{Metadata, Node};
use crate::tls::Tls;

/// Connections to one broker that are kept for later.
const IDLE_PER_BROKER_MAX: usize = 4;
/// How long what may succeed a moment later is tried again, a fail-over included.
pub(crate) const RETRY_LIMIT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

const METADATA_VERSION: i16 = 8;
const FIND_COORDINATOR_VERSION: i16 = 3;
const GROUP_KEY: i8 = 0;

/// A cluster, by addresses of some of its brokers.
pub struct Cluster {
    bootstrap: Vec<String>,
    client_id: Str,
    tls: Option<Tls>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    idle: BTreeMap<String, Vec<Connection>>,
    brokers: BTreeMap<i32, Node>,
    controller: Option<i32>,
}

impl Cluster {
    /// `bootstrap` has addresses with commas between; nothing is sent yet.
    ///
    /// # Errors
    /// [`ClientError::Invalid`] when one of them is not `HOST:PORT`.
    pub fn new(bootstrap: &str, client_id: &str) -> Result<Self, ClientError> {
        let addresses = bootstrap.split(',').map(str::trim);
        let bootstrap: Vec<_> = addresses.map(str::to_owned).collect();
        let has_port = |address: &str| {
            address
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(wrong) = bootstrap.iter().find(|address| !has_port(address)) {
            return Err(ClientError::Invalid(format!(
                "{wrong:?} is not an address; give HOST:PORT, as localhost:9092"
            )));
        }
        Ok(Self {
            bootstrap,
            client_id: Str::from(client_id.to_owned()),
            tls: None,
            state: Mutex::default(),
        })
    }

    /// Connects with TLS.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            ..self
        }
    }

    /// Asks for topics, all without a list. Topics that are not there are not made.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        let request = MetadataRequest {
            topics: topics.map(|names| {
                let named = names.iter().map(|name| MetadataRequestTopic {
                    name: Some(Str::from((*name).to_owned())),
                    ..MetadataRequestTopic::default()
                });
                named.collect()
            }),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let metadata = Metadata::new(self.call_any(METADATA_VERSION, &request).await?);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.brokers.clone_from(&metadata.brokers);
        state.controller = metadata.controller;
        Ok(metadata)
    }

    /// Sends a request to whichever broker answers.
    pub(crate) async fn call_any<R: RequestMessage>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let addresses = self.addresses();
        let mut last = None;
        for address in &addresses {
            match self.call_at(address, version, request).await {
                Err(ClientError::Connection { cause, .. }) => last = Some(cause),
                answered => return answered,
            }
        }
        Err(ClientError::Unreachable {
            addresses: addresses.join(", "),
            cause: last.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()),
        })
    }

    /// Sends a request to the broker that takes changes of the cluster.
    pub(crate) async fn call_controller<R: RequestMessage>(
        &self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let metadata = self.metadata(Some(&[])).await?;
        let controller = metadata.controller.and_then(|id| metadata.brokers.get(&id));
        match controller {
            Some(controller) => self.call_at(&controller.address, version, request).await,
            None => self.call_any(version, request).await,
        }
    }

    /// Sends a request to the broker at this address.
    pub(crate) async fn call_at<R: RequestMessage>(
        &self,
        address: &str,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let mut connection = self.connect(address).await?;
        let answer = connection.call(version, request).await?;
        self.keep(address, connection);
        Ok(answer)
    }

    /// Sends a request that no broker answers.
    pub(crate) async fn send_to<R: RequestMessage>(
        &self,
        address: &str,
        version: i16,
        request: &R,
    ) -> Result<(), ClientError> {
        let mut connection = self.connect(address).await?;
        connection.send_only(version, request).await?;
        self.keep(address, connection);
        Ok(())
    }

    /// The broker that coordinates a group.
    pub(crate) async fn coordinator(&self, group: &str) -> Result<Node, ClientError> {
        let request = FindCoordinatorRequest {
            key: Str::from(group.to_owned()),
            key_type: GROUP_KEY,
            ..FindCoordinatorRequest::default()
        };
        let what = format!("find the coordinator of group {group}");
        retry(&what, async || {
            let found = self.call_any(FIND_COORDINATOR_VERSION, &request).await?;
            check(&what, found.error_code, found.error_message.as_deref())?;
            Ok(Node {
                id: found.node_id,
                address: format!("{}:{}", found.host, found.port),
                rack: None,
            })
        })
        .await
    }

    async fn connect(&self, address: &str) -> Result<Connection, ClientError> {
        let idle = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.idle.get_mut(address).and_then(Vec::pop)
        };
        match idle {
            Some(connection) => Ok(connection),
            None => Connection::open(address, &self.client_id, self.tls.as_ref()).await,
        }
    }

    /// Only after an answer: what broke, or was given up, is closed.
    fn keep(&self, address: &str, connection: Connection) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = state.idle.entry(address.to_owned()).or_default();
        if idle.len() < IDLE_PER_BROKER_MAX {
            idle.push(connection);
        }
    }

    /// Brokers that are known, then those that were given.
    fn addresses(&self) -> Vec<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut addresses: Vec<_> = state.brokers.values().map(|n| n.address.clone()).collect();
        for address in &self.bootstrap {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}

/// Tries again what may succeed a moment later.
pub(crate) async fn retry<T>(
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    let deadline = Instant::now() + RETRY_LIMIT;
    loop {
        match attempt().await {
            Err(error) if error.is_retriable() => {
                if Instant::now() > deadline {
                    return Err(ClientError::TimedOut {
                        what: what.to_owned(),
                        limit: RETRY_LIMIT,
                        last: error.to_string(),
                    });
                }
                sleep(RETRY_PAUSE).await;
            }
            done => return done,
        }
    }
}
