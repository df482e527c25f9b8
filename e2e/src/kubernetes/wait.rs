//! Waiting for objects.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::wait::await_condition;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

/// A watch that broke is begun again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// Waits until `met` holds for the object, which is `None` while it does not exist.
///
/// # Errors
/// When it does not hold within `limit`; the message says what was waited for.
pub async fn wait_for<K>(
    api: &Api<K>,
    name: &str,
    what: &str,
    limit: Duration,
    met: impl Fn(Option<&K>) -> bool,
) -> Result<Option<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let deadline = Instant::now() + limit;
    loop {
        match timeout_at(deadline, await_condition(api.clone(), name, &met)).await {
            Ok(Ok(object)) => return Ok(object),
            Ok(Err(error)) => {
                println!("    watching {name} again: {error}");
                sleep(RETRY_INTERVAL).await;
            }
            Err(_) => bail!("waited {limit:?} in vain until {what} ({name})"),
        }
    }
}

/// The condition of that type, if it has that status and describes the generation.
#[must_use]
pub fn condition<'a>(
    conditions: &'a [Condition],
    type_: &str,
    status: &str,
    generation: Option<i64>,
) -> Option<&'a Condition> {
    conditions.iter().find(|condition| {
        condition.type_ == type_
            && condition.status == status
            && condition.observed_generation == generation
    })
}
