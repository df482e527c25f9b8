//! A topic's settings: its own, else the broker's defaults.

use std::collections::BTreeMap;

use broker_core::metadata::Image;
use broker_core::{BrokerId, Duration};
use broker_log::{CompactionConfig, LogConfig};

use super::{BrokerConfig, ThrottledReplicas, keys};

/// Settings that the broker acts on for each partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    pub log: LogConfig,
    pub min_insync_replicas: usize,
    pub max_message_bytes: usize,
    pub log_append_time: bool,
    pub leader_throttled_replicas: ThrottledReplicas,
    pub follower_throttled_replicas: ThrottledReplicas,
}

/// When replicas leave and enter ISRs: the same for all topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsrTiming {
    /// `replica.lag.time.max.ms`
    pub lag_time_max: Duration,
    /// `klamm.isr.dwell.ms`
    pub dwell: Duration,
}

/// Where a topic's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Topic,
    /// Set for the broker while it runs, under this key.
    DynamicBroker(&'static str),
    /// Set for all brokers while they run, under this key.
    DynamicDefault(&'static str),
    /// Set in the broker's configuration, under this key.
    Broker(&'static str),
    Default,
}

/// What was set for brokers while they run. It goes before their own configuration.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dynamic<'a> {
    broker: Option<&'a BTreeMap<String, String>>,
    cluster: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Dynamic<'a> {
    /// What `image` holds for `broker` and for all brokers.
    #[must_use]
    pub fn of(image: &'a Image, broker: BrokerId) -> Self {
        Self {
            broker: image.broker_configs.get(&broker),
            cluster: Some(&image.cluster_config),
        }
    }

    /// Each value of a key with its source, the one that holds first.
    pub fn values(self, name: &'static str) -> impl Iterator<Item = (&'a str, Source)> {
        let own = self.broker.and_then(|config| config.get(name));
        let all = self.cluster.and_then(|config| config.get(name));
        let own = own.map(|value| (value.as_str(), Source::DynamicBroker(name)));
        let all = all.map(|value| (value.as_str(), Source::DynamicDefault(name)));
        own.into_iter().chain(all)
    }
}

impl BrokerConfig {
    /// Value of `key` for a topic with `overrides`, and where it comes from.
    #[must_use]
    pub fn topic_value(
        &self,
        overrides: &BTreeMap<String, String>,
        dynamic: Dynamic<'_>,
        key: &keys::TopicKey,
    ) -> (String, Source) {
        if let Some(value) = overrides.get(key.name) {
            return (value.clone(), Source::Topic);
        }
        for (fallback, factor) in key.fallbacks {
            if let Some((value, source)) = dynamic.values(fallback).next() {
                return (scaled(value, *factor), source);
            }
            if let Some(value) = self.properties().get(*fallback) {
                return (scaled(value, *factor), Source::Broker(fallback));
            }
        }
        let default = key.fallbacks.iter().rev().find_map(|(fallback, factor)| {
            let default = keys::broker_key(fallback)?.default?;
            Some(scaled(default, *factor))
        });
        (
            default
                .or_else(|| key.default.map(str::to_owned))
                .expect("every topic key has a default of its own or the brokers'"),
            Source::Default,
        )
    }

    /// The settings of a topic with `overrides`, which were checked when they were set.
    #[must_use]
    pub fn topic_config(
        &self,
        overrides: &BTreeMap<String, String>,
        dynamic: Dynamic<'_>,
        internal: bool,
    ) -> TopicConfig {
        let text = |name| {
            let key = keys::topic_key(name).expect("named in this file");
            self.topic_value(overrides, dynamic, key).0
        };
        let number = |name| text(name).parse::<i64>().unwrap_or(-1);
        let limit = |name| u64::try_from(number(name)).ok();
        let bounded = |name| limit(name).filter(|value| *value != i64::MAX as u64);
        let throttled = |name| {
            ThrottledReplicas::parse(&text(name)).unwrap_or_else(|_| ThrottledReplicas::none())
        };
        let policy = text("cleanup.policy");
        let has = |one| policy.split(',').any(|policy| policy.trim() == one);
        // What brokers keep there must not age away.
        let (deletes, compacts) = (!internal && has("delete"), internal || has("compact"));
        TopicConfig {
            log: LogConfig {
                segment_bytes: limit("segment.bytes").unwrap_or(u64::MAX),
                segment_ms: limit("segment.ms").unwrap_or(u64::MAX),
                index_interval_bytes: limit("index.interval.bytes").unwrap_or(0),
                segment_index_bytes: limit("segment.index.bytes").unwrap_or(0),
                retention_ms: limit("retention.ms").filter(|_| deletes),
                retention_bytes: limit("retention.bytes").filter(|_| deletes),
                flush_messages: bounded("flush.messages"),
                flush_ms: bounded("flush.ms"),
                segment_jitter_ms: 0,
                compaction: compacts.then(|| CompactionConfig {
                    min_cleanable_dirty_ppm: ppm(&text("min.cleanable.dirty.ratio")),
                    min_lag_ms: limit("min.compaction.lag.ms").unwrap_or(0),
                    max_lag_ms: limit("max.compaction.lag.ms").unwrap_or(u64::MAX),
                    delete_retention_ms: limit("delete.retention.ms").unwrap_or(u64::MAX),
                }),
            },
            min_insync_replicas: usize::try_from(number("min.insync.replicas")).unwrap_or(1),
            max_message_bytes: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            leader_throttled_replicas: throttled("leader.replication.throttled.replicas"),
            follower_throttled_replicas: throttled("follower.replication.throttled.replicas"),
        }
    }

    /// When replicas leave and enter ISRs.
    #[must_use]
    pub fn isr_timing(&self) -> IsrTiming {
        IsrTiming {
            lag_time_max: self.millis("replica.lag.time.max.ms"),
            dwell: self.millis("klamm.isr.dwell.ms"),
        }
    }
}

/// A ratio in parts per million.
fn ppm(ratio: &str) -> u32 {
    let ratio: f64 = ratio.parse().unwrap_or(1.0);
    (ratio.clamp(0.0, 1.0) * 1e6) as u32
}

/// Converts a broker's value into the topic key's unit; -1 stays "no limit".
fn scaled(value: &str, factor: i64) -> String {
    match value.parse::<i64>() {
        Ok(number) if number >= 0 && factor != 1 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}
