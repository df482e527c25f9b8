//! Logs: one line an event on standard output; `RUST_LOG` chooses what is logged.

use tracing_subscriber::EnvFilter;

const DEFAULT_FILTER: &str = "info,openraft=error,h2=warn,hyper=warn,tonic=warn";

/// Starts logging. Called once, first thing.
pub fn init(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| DEFAULT_FILTER.into());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false);
    if json {
        builder.json().init()
    } else {
        builder.with_ansi(false).init()
    }
}
