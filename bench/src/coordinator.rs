//! Which broker coordinates a group.

use std::time::Duration;

use anyhow::{Result, bail};
use broker_wire::message::FindCoordinatorRequest;
use broker_wire::{ErrorCode, Str};
use tokio::time::{Instant, sleep};

use crate::connection::Connection;

const FIND_COORDINATOR_VERSION: i16 = 2;
/// The first group of a cluster waits for `__consumer_offsets`.
const LIMIT: Duration = Duration::from_secs(60);
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// The address of the broker that coordinates `group`; waits until there is one.
pub(crate) async fn find(connection: &mut Connection, group: &str) -> Result<String> {
    let request = FindCoordinatorRequest {
        key: Str::from(group.to_owned()),
        ..FindCoordinatorRequest::default()
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        let found = connection.call(FIND_COORDINATOR_VERSION, &request).await?;
        match found.error_code {
            ErrorCode::None => return Ok(format!("{}:{}", &*found.host, found.port)),
            error if error.retriable() && Instant::now() < deadline => sleep(RETRY_AFTER).await,
            error => bail!("group {group} has no coordinator: {error:?}"),
        }
    }
}
