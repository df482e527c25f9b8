//! Where Kafka clients are served: addresses that are taken when the broker starts, and opened once
//! it knows the metadata. Before, it would tell clients that their topics do not exist; whoever
//! connects is refused and turns to another broker.

use std::sync::Arc;

use anyhow::Context as _;
use broker_core::metadata::Image;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::net::{ReservedAddress, Server};

/// See the module's documentation.
pub(crate) struct ClientListeners {
    /// With the names of the listeners
    addresses: Vec<(Arc<str>, ReservedAddress)>,
}

impl ClientListeners {
    /// Takes the addresses of `listeners`.
    ///
    /// # Errors
    /// When another process has one of them.
    pub(crate) async fn reserve(config: &BrokerConfig) -> anyhow::Result<Self> {
        let mut addresses = Vec::new();
        for endpoint in &config.listeners {
            let address = endpoint.address.bind_address();
            let reserved = ReservedAddress::bind(&address).await.with_context(|| {
                format!("can't listen on {address}; is another process there? (listeners)")
            })?;
            addresses.push((Arc::from(endpoint.name.as_str()), reserved));
        }
        Ok(Self { addresses })
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
        for (name, address) in self.addresses {
            let listener = address.listen()?;
            tracing::info!(listener = %name, address = %listener.local_addr()?, "listening");
            tokio::spawn(Arc::clone(&server).serve(listener, name, stopped.clone()));
        }
        Ok(())
    }
}
