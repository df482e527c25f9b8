//! Where Kafka clients are served, in plaintext or in TLS: addresses that are taken when the broker
//! starts, and opened once it knows the metadata. Before, it would tell clients that their topics do
//! not exist; whoever connects is refused and turns to another broker.

use std::sync::Arc;

use anyhow::Context as _;
use broker_core::metadata::Image;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::net::{ReservedAddress, Server};
use crate::tls::{CertificateStatus, ListenerTls};

/// See the module's documentation.
pub(crate) struct ClientListeners {
    listeners: Vec<Listener>,
}

struct Listener {
    name: Arc<str>,
    address: ReservedAddress,
    /// `None`: plaintext
    tls: Option<Arc<ListenerTls>>,
}

impl ClientListeners {
    /// Reads the certificates and takes the addresses of `listeners`.
    ///
    /// # Errors
    /// When certificates can't be used, or another process has an address.
    pub(crate) async fn reserve(config: &BrokerConfig) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for endpoint in &config.listeners {
            let address = endpoint.address.bind_address();
            let reserved = ReservedAddress::bind(&address).await.with_context(|| {
                format!("can't listen on {address}; is another process there? (listeners)")
            })?;
            let name = endpoint.name.as_str();
            let tls = config.listener_tls.get(name).map(|settings| {
                let tls = ListenerTls::listener(name, settings);
                tls.with_context(|| format!("the listener {name} has no certificates (ssl.*)"))
            });
            listeners.push(Listener {
                name: Arc::from(name),
                address: reserved,
                tls: tls.transpose()?.map(Arc::new),
            });
        }
        Ok(Self { listeners })
    }

    /// What is to be told of the certificates.
    pub(crate) fn certificates(&self) -> impl Iterator<Item = Arc<CertificateStatus>> {
        let tls = self
            .listeners
            .iter()
            .filter_map(|listener| listener.tls.as_ref());
        tls.map(|tls| Arc::clone(tls.status()))
    }

    /// Has `server` serve clients, as soon as this broker knows the metadata up to its own
    /// registration, until `stopped`.
    ///
    /// # Errors
    /// When there will be no metadata any more, or another process took an address.
    pub(crate) async fn open(
        self,
        controller: &Controller,
        server: Arc<Server>,
        stopped: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut images = controller.watch();
        let knows = |image: &Arc<Image>| controller.is_registered_in(image);
        images.wait_for(knows).await?;
        for Listener { name, address, tls } in self.listeners {
            let listener = address.listen()?;
            tracing::info!(
                listener = %name, address = %listener.local_addr()?, tls = tls.is_some(), "listening"
            );
            if let Some(tls) = &tls {
                tokio::spawn(Arc::clone(tls).watch());
            }
            let server = Arc::clone(&server);
            tokio::spawn(server.serve(listener, name, tls, stopped.clone()));
        }
        Ok(())
    }
}
