//! A rate of bytes from the settings in the metadata, for what brokers do in the background.

use std::time::Duration;

use broker_core::metadata::Image;
use broker_core::{BrokerId, Rate};
use parking_lot::Mutex;

use crate::clock;

/// What may pass per second. Without a rate, everything.
#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<Rate>);

impl Quota {
    /// Takes over what the setting `key` says for broker `me`.
    pub(crate) fn configure(&self, image: &Image, me: BrokerId, key: &str) {
        let bytes_per_second = rate(image, me, key);
        let mut quota = self.0.lock();
        if quota.per_second() != bytes_per_second {
            quota.set_rate(clock::now(), bytes_per_second);
        }
    }

    /// How long nothing may pass; zero when something may.
    pub(crate) fn wait(&self) -> Duration {
        self.0.lock().wait(clock::now())
    }

    pub(crate) fn record(&self, bytes: usize) {
        self.0.lock().record(clock::now(), bytes as u64);
    }
}

/// Bytes per second; the value was checked when it was set.
fn rate(image: &Image, me: BrokerId, key: &str) -> Option<u64> {
    let own = image.broker_configs.get(&me);
    let value = own
        .and_then(|config| config.get(key))
        .or_else(|| image.cluster_config.get(key))?;
    let is_limit = |rate: &u64| *rate != i64::MAX as u64;
    value.parse().ok().filter(is_limit)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::keys::{FOLLOWER_THROTTLED_RATE, LEADER_THROTTLED_RATE};

    #[test]
    fn a_brokers_own_rate_goes_before_that_of_all() {
        let config =
            |rate: &str| BTreeMap::from([(LEADER_THROTTLED_RATE.to_owned(), rate.to_owned())]);
        let mut image = Image::default();
        let me = BrokerId(1);
        assert_eq!(rate(&image, me, LEADER_THROTTLED_RATE), None);
        image.cluster_config = config("1000");
        assert_eq!(rate(&image, me, LEADER_THROTTLED_RATE), Some(1000));
        image.broker_configs.insert(me, config("7"));
        assert_eq!(rate(&image, me, LEADER_THROTTLED_RATE), Some(7));
        assert_eq!(rate(&image, me, FOLLOWER_THROTTLED_RATE), None);
        image
            .broker_configs
            .insert(me, config(&i64::MAX.to_string()));
        assert_eq!(rate(&image, me, LEADER_THROTTLED_RATE), None);
    }
}
