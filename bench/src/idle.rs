//! Clients that ask for nothing: what brokers use all the same.

use anyhow::Result;
use broker_wire::message::ApiVersionsRequest;
use serde::Serialize;
use tokio::time::sleep_until;

use crate::cluster::Bootstrap;
use crate::connection::Connection;
use crate::window::{Used, WindowOptions};

const API_VERSIONS_VERSION: i16 = 0;

#[derive(Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    at: Bootstrap,
    #[command(flatten)]
    window: WindowOptions,
    /// Connections that stay open, over all brokers in turn
    #[arg(long, default_value_t = 0)]
    connections: usize,
}

#[derive(Serialize)]
pub(crate) struct Report {
    connections: usize,
    #[serde(flatten)]
    used: Used,
}

pub(crate) async fn run(options: Options) -> Result<Report> {
    let mut connections = Vec::new();
    for address in options.at.addresses().cycle().take(options.connections) {
        let mut connection = Connection::open(address).await?;
        // As clients begin; only then a broker knows that it is one.
        let request = ApiVersionsRequest::default();
        connection.call(API_VERSIONS_VERSION, &request).await?;
        connections.push(connection);
    }
    let window = options.window.open();
    let idle = async {
        sleep_until(window.until).await;
        Ok(())
    };
    let used = options.window.measure(window, idle).await?;
    let connections = connections.len();
    Ok(Report { connections, used })
}
