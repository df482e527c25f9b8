//! The table of configuration keys: name, type, default, documentation, and how a topic's setting
//! falls back to the broker's.

use super::ThrottledReplicas;

/// Type and bounds of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Long {
        min: i64,
        max: i64,
    },
    Text,
    /// Comma separated.
    List,
    OneOf(&'static [&'static str]),
    /// Comma separated, at least one of these and none twice.
    SomeOf(&'static [&'static str]),
    /// Between 0 and 1.
    Ratio,
    /// `*`, or a comma-separated list of partition:broker.
    ThrottledReplicas,
    /// Text that is never told.
    Password,
}

impl Kind {
    /// Checks one value.
    ///
    /// # Errors
    /// What is allowed instead.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Bool => match value {
                "true" | "false" => Ok(()),
                _ => Err("must be true or false".to_owned()),
            },
            Self::Int { min, max } | Self::Long { min, max } => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                Ok(_) => Err(format!("must be between {min} and {max}")),
                Err(_) => Err("must be a whole number".to_owned()),
            },
            Self::Text | Self::List | Self::Password => Ok(()),
            Self::ThrottledReplicas => ThrottledReplicas::parse(value).map(drop),
            Self::SomeOf(allowed) => check_list(allowed, value),
            Self::Ratio => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => Err("must be a number between 0 and 1".to_owned()),
            },
            Self::OneOf(allowed) if allowed.contains(&value) => Ok(()),
            Self::OneOf(allowed) => Err(format!("must be one of: {}", allowed.join(", "))),
        }
    }
}

fn check_list(allowed: &[&str], value: &str) -> Result<(), String> {
    let items: Vec<_> = value.split(',').map(str::trim).collect();
    let repeated = (1..items.len()).any(|i| items[..i].contains(&items[i]));
    if repeated || !items.iter().all(|item| allowed.contains(item)) {
        return Err(format!("must be one or several of: {}", allowed.join(", ")));
    }
    Ok(())
}

/// A key of the broker's configuration.
#[derive(Clone, Copy, Debug)]
pub struct BrokerKey {
    pub name: &'static str,
    pub kind: Kind,
    /// `None`: no value unless set.
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

/// A key of a topic's configuration.
#[derive(Clone, Copy, Debug)]
pub struct TopicKey {
    pub name: &'static str,
    pub kind: Kind,
    /// Broker keys that give the default, most specific first, each with the factor that converts
    /// it into the topic key's unit.
    pub fallbacks: &'static [(&'static str, i64)],
    /// Of a key without fallbacks.
    pub default: Option<&'static str>,
    pub doc: &'static str,
}

const POSITIVE_INT: Kind = Kind::Int {
    min: 1,
    max: i32::MAX as i64,
};
const NATURAL_INT: Kind = Kind::Int {
    min: 0,
    max: i32::MAX as i64,
};
const PORTION: Kind = Kind::Int {
    min: 1,
    max: i16::MAX as i64,
};
const POSITIVE_LONG: Kind = Kind::Long {
    min: 1,
    max: i64::MAX,
};
const NATURAL_LONG: Kind = Kind::Long {
    min: 0,
    max: i64::MAX,
};
const CLEANUP_POLICY: Kind = Kind::SomeOf(&["compact", "delete"]);
const OR_UNLIMITED: Kind = Kind::Long {
    min: -1,
    max: i64::MAX,
};
const SEGMENT_BYTES: Kind = Kind::Int {
    min: 1 << 20,
    max: i32::MAX as i64,
};
const NEVER: Option<&str> = Some("9223372036854775807");

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    doc: &'static str,
) -> BrokerKey {
    BrokerKey {
        name,
        kind,
        default,
        doc,
    }
}

/// Every key that `klamm-broker run` and `dev` take.
#[rustfmt::skip]
pub const BROKER_KEYS: &[BrokerKey] = &[
    key("advertised.listeners", Kind::List, None, "Addresses that clients are told to use, NAME://host:port; those of `listeners` unless set."),
    key("auto.create.topics.enable", Kind::Bool, Some("true"), "Create a topic when a client asks for the metadata of an unknown one and allows it."),
    key("auto.leader.rebalance.enable", Kind::Bool, Some("true"), "Move leaders back to their preferred replica in the background."),
    key("broker.heartbeat.interval.ms", Kind::Int { min: 50, max: 60_000 }, Some("250"), "Time between a broker's heartbeats to the controller."),
    key("broker.rack", Kind::Text, None, "Zone of this broker; replicas of a partition are spread over zones."),
    key("broker.session.timeout.ms", Kind::Int { min: 500, max: 600_000 }, Some("1500"), "A broker silent for so long is fenced."),
    key("connections.max.idle.ms", POSITIVE_LONG, Some("600000"), "Idle client connections are closed after this time."),
    key("controlled.shutdown.timeout.ms", POSITIVE_LONG, Some("60000"), "How long a stopping broker waits for its leaders to be moved away."),
    key("controller.quorum.election.timeout.ms", Kind::Int { min: 100, max: 60_000 }, Some("1000"), "Upper bound of the time without a leader after which a voter calls an election."),
    key("controller.quorum.voters", Kind::List, None, "Initial voters of the metadata quorum, id@host:port of their `klamm.rpc.advertised`."),
    key("default.replication.factor", PORTION, Some("1"), "Replicas of topics created without a replication factor."),
    key("group.consumer.heartbeat.interval.ms", POSITIVE_INT, Some("5000"), "How often members of groups of the consumer protocol send heartbeats."),
    key("group.consumer.max.size", POSITIVE_INT, Some("2147483647"), "Most members of a group of the consumer protocol."),
    key("group.consumer.session.timeout.ms", POSITIVE_INT, Some("45000"), "How long a member of a group of the consumer protocol may be silent."),
    key("group.initial.rebalance.delay.ms", NATURAL_INT, Some("3000"), "How long the first rebalance of an empty group waits for more members."),
    key("group.max.session.timeout.ms", POSITIVE_INT, Some("1800000"), "Longest session time-out that a consumer may ask for."),
    key("group.max.size", POSITIVE_INT, Some("2147483647"), "Most members of a consumer group."),
    key("group.min.session.timeout.ms", POSITIVE_INT, Some("6000"), "Shortest session time-out that a consumer may ask for."),
    key("klamm.acks.counted.enable", Kind::Bool, Some("false"), "Take acks of 2 and more as a number of in-sync replicas, the leader included; refused unless set."),
    key("klamm.broker.reconnect.grace.ms", Kind::Int { min: 100, max: 60_000 }, Some("1000"), "A broker whose heartbeat stream broke is fenced unless it is back within this time."),
    key("klamm.cluster.id", Kind::Text, None, "Id of the cluster; a data directory of another cluster is refused."),
    key("klamm.http.listener", Kind::Text, Some("127.0.0.1:9404"), "Address of /healthz, /readyz and /metrics."),
    key("klamm.isr.dwell.ms", NATURAL_INT, Some("1000"), "A follower that lagged out of the ISR enters again when it was caught up for so long; doubled each time it lags out again soon."),
    key("klamm.log.dir.slow.ms", NATURAL_INT, Some("1000"), "A log directory on which a tenth of the writes and syncs take longer, for five seconds of ten, gives its leaders away; 0: never."),
    key("klamm.log.scrub.bytes.per.second", NATURAL_INT, Some("1048576"), "How fast records that nobody may have read for long are read again and verified, all logs together; 0: never."),
    key("klamm.memory.requests.max.bytes", POSITIVE_LONG, Some("268435456"), "Memory for requests being read and served; beyond it sockets are not read."),
    key("klamm.quorum.bootstrap.enable", Kind::Bool, Some("true"), "Whether the initial voters may form a quorum where none of them knows one. Set to false once the cluster exists, so that none is formed anew when their disks are lost."),
    key("klamm.replica.replacement.delay.ms", NATURAL_INT, Some("1800000"), "Replicas on a broker that was away for so long are re-created on others, unless a restart is announced or the broker is cordoned or drained; 0: never."),
    key("klamm.rpc.advertised", Kind::Text, None, "Address at which other brokers and the operator reach `klamm.rpc.listener`."),
    key("klamm.rpc.listener", Kind::Text, Some("127.0.0.1:9095"), "Address for gRPC between brokers and from the operator."),
    key("klamm.rpc.tls.dir", Kind::Text, None, "Directory with tls.crt, tls.key and ca.crt for mutual TLS on `klamm.rpc.listener`, as a Kubernetes TLS Secret is mounted; read again when they change. Plaintext unless set."),
    key("klamm.rpc.tls.name", Kind::Text, None, "DNS name that the certificates of this cluster's brokers and operator bear; peers without it are refused."),
    key("klamm.rpc.token.file", Kind::Text, None, "File with the secret that every gRPC caller must present."),
    key("leader.imbalance.check.interval.seconds", POSITIVE_LONG, Some("300"), "How often preferred leaders are restored."),
    key("listener.security.protocol.map", Kind::List, None, "NAME:PROTOCOL of every listener, PLAINTEXT or SSL. Unless set, a listener named SSL has TLS and all others are PLAINTEXT."),
    key("listeners", Kind::List, Some("PLAINTEXT://:9092"), "Addresses for Kafka clients, NAME://host:port; an empty host means all interfaces."),
    key("log.cleaner.backoff.ms", NATURAL_LONG, Some("15000"), "How long the log cleaner waits when no log is to be compacted."),
    key("log.cleaner.dedupe.buffer.size", Kind::Long { min: 4096, max: 1 << 40 }, Some("134217728"), "Memory for the keys of one compaction, 27 bytes for each; a log with more dirty keys takes several passes."),
    key("log.cleaner.delete.retention.ms", NATURAL_LONG, Some("86400000"), "How long compaction keeps a record without a value, from when it first saw it."),
    key("log.cleaner.io.max.bytes.per.second", POSITIVE_LONG, NEVER, "Bytes per second that compaction reads and writes at most."),
    key("log.cleaner.max.compaction.lag.ms", POSITIVE_LONG, NEVER, "Age at which a record is compacted though its log is not dirty enough."),
    key("log.cleaner.min.cleanable.ratio", Kind::Ratio, Some("0.5"), "Share of a log's bytes that were not compacted yet beyond which it is compacted."),
    key("log.cleaner.min.compaction.lag.ms", NATURAL_LONG, Some("0"), "Age below which records are not compacted."),
    key("log.cleanup.policy", CLEANUP_POLICY, Some("delete"), "What happens to old segments: delete them, compact the log to the last record of each key, or both."),
    key("log.dir", Kind::Text, None, "As log.dirs for one directory; log.dirs goes before it."),
    key("log.dirs", Kind::List, Some("/var/lib/klamm/data"), "Directories of the partitions, one for each disk. New replicas go where the fewest are."),
    key("log.flush.interval.messages", POSITIVE_LONG, NEVER, "fsync before the acknowledgement of every so many messages; 1 makes each acknowledged message durable."),
    key("log.flush.interval.ms", POSITIVE_LONG, NEVER, "fsync when the oldest unflushed message is this old."),
    key("log.index.interval.bytes", NATURAL_INT, Some("4096"), "Bytes of log between two index entries."),
    key("log.index.size.max.bytes", Kind::Int { min: 4096, max: i32::MAX as i64 }, Some("10485760"), "Largest size of an offset index."),
    key("log.message.timestamp.type", Kind::OneOf(&["CreateTime", "LogAppendTime"]), Some("CreateTime"), "Whether messages keep the producer's time or get the broker's."),
    key("log.retention.bytes", OR_UNLIMITED, Some("-1"), "Size of a partition beyond which its oldest segments are deleted; -1: no limit."),
    key("log.retention.check.interval.ms", POSITIVE_LONG, Some("300000"), "How often retention is applied."),
    key("log.retention.hours", Kind::Int { min: -1, max: i32::MAX as i64 }, Some("168"), "Age at which segments are deleted."),
    key("log.retention.minutes", Kind::Int { min: -1, max: i32::MAX as i64 }, None, "As log.retention.hours, before which it goes."),
    key("log.retention.ms", OR_UNLIMITED, None, "As log.retention.minutes, before which it goes; -1: no limit."),
    key("log.roll.hours", POSITIVE_INT, Some("168"), "Age at which a segment is closed though it is not full."),
    key("log.roll.ms", POSITIVE_LONG, None, "As log.roll.hours, before which it goes."),
    key("log.segment.bytes", SEGMENT_BYTES, Some("1073741824"), "Size at which a segment is closed."),
    key("max.connections", POSITIVE_INT, Some("16384"), "Client connections at a time; more are closed at once."),
    key("message.max.bytes", NATURAL_INT, Some("1048588"), "Largest record batch."),
    key("metadata.log.dir", Kind::Text, None, "Directory of the metadata log; the first of log.dirs unless set."),
    key("min.insync.replicas", POSITIVE_INT, Some("1"), "Replicas that must have a message before acks=all is answered."),
    key("node.id", NATURAL_INT, None, "Id of this broker."),
    key("num.partitions", POSITIVE_INT, Some("1"), "Partitions of topics created without a partition count."),
    key("offset.metadata.max.bytes", NATURAL_INT, Some("4096"), "Largest metadata of a committed offset."),
    key("offsets.retention.minutes", POSITIVE_INT, Some("10080"), "Committed offsets of an empty group are kept so long."),
    key("offsets.topic.num.partitions", POSITIVE_INT, Some("50"), "Partitions of __consumer_offsets."),
    key("offsets.topic.replication.factor", PORTION, Some("3"), "Replicas of __consumer_offsets; as many as there are brokers if these are fewer."),
    key("offsets.topic.segment.bytes", SEGMENT_BYTES, Some("104857600"), "Segment size of __consumer_offsets."),
    key("producer.id.expiration.ms", POSITIVE_INT, Some("86400000"), "Sequence numbers of a silent idempotent producer are forgotten after this time."),
    key("replica.fetch.max.bytes", POSITIVE_INT, Some("1048576"), "Bytes that a follower pulls of one partition at a time."),
    key("replica.fetch.response.max.bytes", POSITIVE_INT, Some("10485760"), "Bytes that a follower pulls of one leader at a time."),
    key("replica.fetch.wait.max.ms", Kind::Int { min: 10, max: 60_000 }, Some("500"), "How long a follower's pull waits for news."),
    key("replica.high.watermark.checkpoint.interval.ms", POSITIVE_LONG, Some("5000"), "How often high watermarks and recovery points are written down."),
    key("replica.lag.max.messages", OR_UNLIMITED, None, "Deprecated and ignored: the ISR is kept by replica.lag.time.max.ms."),
    key("replica.lag.time.max.ms", POSITIVE_LONG, Some("30000"), "A follower that was not caught up for so long leaves the ISR."),
    key("socket.request.max.bytes", POSITIVE_INT, Some("104857600"), "Largest request."),
    key("ssl.client.auth", Kind::OneOf(&["none", "requested", "required"]), Some("none"), "Whether clients show a certificate that an authority of the truststore issued."),
    key("ssl.enabled.protocols", Kind::SomeOf(&["TLSv1.2", "TLSv1.3"]), Some("TLSv1.2,TLSv1.3"), "Versions of TLS."),
    key("ssl.keystore.certificate.chain", Kind::Password, None, "The broker's certificate and those between it and its authority, PEM; instead of ssl.keystore.location."),
    key("ssl.keystore.key", Kind::Password, None, "Private key of ssl.keystore.certificate.chain, PEM, unencrypted."),
    key("ssl.keystore.location", Kind::Text, None, "PEM file with certificate chain and private key, or a directory with tls.crt and tls.key; read again when they change."),
    key("ssl.keystore.type", Kind::OneOf(&["PEM"]), Some("PEM"), "Format of the keystore."),
    key("ssl.truststore.certificates", Kind::Password, None, "Certificates of the authorities that issue those of clients, PEM; instead of ssl.truststore.location."),
    key("ssl.truststore.location", Kind::Text, None, "PEM file with the authorities that issue the certificates of clients, or a directory with ca.crt; read again when they change."),
    key("ssl.truststore.type", Kind::OneOf(&["PEM"]), Some("PEM"), "Format of the truststore."),
    key("transaction.max.timeout.ms", POSITIVE_INT, Some("900000"), "Longest time-out that a transactional producer may ask for."),
    key("transaction.state.log.min.isr", POSITIVE_INT, Some("2"), "min.insync.replicas of __transaction_state."),
    key("transaction.state.log.num.partitions", POSITIVE_INT, Some("50"), "Partitions of __transaction_state."),
    key("transaction.state.log.replication.factor", PORTION, Some("3"), "Replicas of __transaction_state; as many as there are brokers if these are fewer."),
    key("transaction.state.log.segment.bytes", SEGMENT_BYTES, Some("104857600"), "Segment size of __transaction_state."),
    key("transactional.id.expiration.ms", POSITIVE_INT, Some("604800000"), "A transactional id that was not used for so long is forgotten."),
    key("unclean.leader.election.enable", Kind::Bool, Some("false"), "Let a replica lead that may lack acknowledged messages when no other is left."),
];

const fn topic(
    name: &'static str,
    kind: Kind,
    fallbacks: &'static [(&'static str, i64)],
    doc: &'static str,
) -> TopicKey {
    TopicKey {
        name,
        kind,
        fallbacks,
        default: None,
        doc,
    }
}

/// Replicas that a throttle holds for; brokers have no default for them.
const fn throttled_replicas(name: &'static str, doc: &'static str) -> TopicKey {
    TopicKey {
        name,
        kind: Kind::ThrottledReplicas,
        fallbacks: &[],
        default: Some(""),
        doc,
    }
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Every key that a topic takes.
#[rustfmt::skip]
pub const TOPIC_KEYS: &[TopicKey] = &[
    topic("cleanup.policy", CLEANUP_POLICY, &[("log.cleanup.policy", 1)], "What happens to old segments: delete them, compact the log to the last record of each key, or both."),
    topic("delete.retention.ms", NATURAL_LONG, &[("log.cleaner.delete.retention.ms", 1)], "How long compaction keeps a record without a value, from when it first saw it."),
    topic("flush.messages", POSITIVE_LONG, &[("log.flush.interval.messages", 1)], "fsync before the acknowledgement of every so many messages; 1 makes each acknowledged message durable."),
    topic("flush.ms", POSITIVE_LONG, &[("log.flush.interval.ms", 1)], "fsync when the oldest unflushed message is this old."),
    throttled_replicas("follower.replication.throttled.replicas", "Replicas that pull no faster than their broker's follower.replication.throttled.rate while they are not in sync: partition:broker,... or *."),
    topic("index.interval.bytes", NATURAL_INT, &[("log.index.interval.bytes", 1)], "Bytes of log between two index entries."),
    throttled_replicas("leader.replication.throttled.replicas", "Replicas that serve followers out of sync no faster than their broker's leader.replication.throttled.rate: partition:broker,... or *."),
    topic("max.compaction.lag.ms", POSITIVE_LONG, &[("log.cleaner.max.compaction.lag.ms", 1)], "Age at which a record is compacted though its log is not dirty enough."),
    topic("max.message.bytes", NATURAL_INT, &[("message.max.bytes", 1)], "Largest record batch."),
    topic("message.timestamp.type", Kind::OneOf(&["CreateTime", "LogAppendTime"]), &[("log.message.timestamp.type", 1)], "Whether messages keep the producer's time or get the broker's."),
    topic("min.cleanable.dirty.ratio", Kind::Ratio, &[("log.cleaner.min.cleanable.ratio", 1)], "Share of the log's bytes that were not compacted yet beyond which it is compacted."),
    topic("min.compaction.lag.ms", NATURAL_LONG, &[("log.cleaner.min.compaction.lag.ms", 1)], "Age below which records are not compacted."),
    topic("min.insync.replicas", POSITIVE_INT, &[("min.insync.replicas", 1)], "Replicas that must have a message before acks=all is answered."),
    topic("retention.bytes", OR_UNLIMITED, &[("log.retention.bytes", 1)], "Size of a partition beyond which its oldest segments are deleted; -1: no limit."),
    topic("retention.ms", OR_UNLIMITED, &[("log.retention.ms", 1), ("log.retention.minutes", MINUTE_MS), ("log.retention.hours", HOUR_MS)], "Age at which segments are deleted; -1: no limit."),
    topic("segment.bytes", SEGMENT_BYTES, &[("log.segment.bytes", 1)], "Size at which a segment is closed."),
    topic("segment.index.bytes", Kind::Int { min: 4096, max: i32::MAX as i64 }, &[("log.index.size.max.bytes", 1)], "Largest size of an offset index."),
    topic("segment.ms", POSITIVE_LONG, &[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)], "Age at which a segment is closed though it is not full."),
    topic("unclean.leader.election.enable", Kind::Bool, &[("unclean.leader.election.enable", 1)], "Let a replica lead that may lack acknowledged messages when no other is left."),
];

/// Keys that are set while brokers run, for one or for all of them, and nowhere else.
#[rustfmt::skip]
pub const DYNAMIC_BROKER_KEYS: &[BrokerKey] = &[
    key(FOLLOWER_THROTTLED_RATE, POSITIVE_LONG, NEVER, "Bytes per second that this broker's throttled replicas pull at most."),
    key(LEADER_THROTTLED_RATE, POSITIVE_LONG, NEVER, "Bytes per second that followers pull of this broker's throttled replicas at most."),
    key(MOVE_THROTTLED_RATE, POSITIVE_LONG, NEVER, "Bytes per second that this broker copies at most to move replicas between its log directories."),
];
pub const FOLLOWER_THROTTLED_RATE: &str = "follower.replication.throttled.rate";
pub const LEADER_THROTTLED_RATE: &str = "leader.replication.throttled.rate";
pub const MOVE_THROTTLED_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

/// Defaults of topics that the controller and all brokers must agree on.
const CLUSTER_WIDE_KEYS: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];

/// For whom a setting of running brokers is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    OneBroker,
    AllBrokers,
}

/// What becomes of a broker's setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Running brokers take it.
    Dynamic,
    /// It belongs into the broker's configuration and takes a restart.
    NeedsRestart,
    /// There is no such key; in words.
    Unknown(String),
    /// The value is out of its range; in words.
    Invalid(String),
}

/// The key, if running brokers take it: a throttle or a default of topics.
#[must_use]
pub fn dynamic_broker_key(name: &str) -> Option<&'static BrokerKey> {
    let is_topic_default = |key: &&BrokerKey| {
        let mut topics = TOPIC_KEYS.iter();
        topics.any(|topic| topic.fallbacks.iter().any(|(name, _)| *name == key.name))
    };
    let mut keys = DYNAMIC_BROKER_KEYS.iter();
    keys.find(|key| key.name == name)
        .or_else(|| broker_key(name).filter(is_topic_default))
}

/// Judges one setting of a broker.
#[must_use]
pub fn judge_broker_setting(scope: Scope, name: &str, value: &str) -> Verdict {
    let dynamic = dynamic_broker_key(name);
    let Some(key) = dynamic.or_else(|| broker_key(name)) else {
        let hint = closest_broker_key(name);
        let hint = hint.map_or_else(String::new, |key| format!("; did you mean {key:?}?"));
        return Verdict::Unknown(format!("unknown configuration key {name:?}{hint}"));
    };
    if let Err(reason) = key.kind.check(value) {
        return Verdict::Invalid(format!("{name}={value}: {reason}"));
    }
    let fits_scope = scope == Scope::AllBrokers || !CLUSTER_WIDE_KEYS.contains(&name);
    if dynamic.is_some() && fits_scope {
        Verdict::Dynamic
    } else {
        Verdict::NeedsRestart
    }
}

/// Checks one setting of running brokers.
///
/// # Errors
/// What is wrong with it, for the client to read.
pub fn check_dynamic_broker_setting(scope: Scope, name: &str, value: &str) -> Result<(), String> {
    match judge_broker_setting(scope, name, value) {
        Verdict::Dynamic => Ok(()),
        Verdict::NeedsRestart if dynamic_broker_key(name).is_some() => Err(format!(
            "{name} must be the same for all brokers; set the cluster's default"
        )),
        Verdict::NeedsRestart => Err(format!(
            "{name} can't be changed while brokers run; set it in their configuration"
        )),
        Verdict::Unknown(reason) | Verdict::Invalid(reason) => Err(reason),
    }
}

/// Looks up a broker key.
#[must_use]
pub fn broker_key(name: &str) -> Option<&'static BrokerKey> {
    BROKER_KEYS
        .binary_search_by(|key| key.name.cmp(name))
        .ok()
        .map(|at| &BROKER_KEYS[at])
}

/// Looks up a topic key.
#[must_use]
pub fn topic_key(name: &str) -> Option<&'static TopicKey> {
    TOPIC_KEYS
        .binary_search_by(|key| key.name.cmp(name))
        .ok()
        .map(|at| &TOPIC_KEYS[at])
}

/// Checks one setting of a topic.
///
/// # Errors
/// What is wrong with it, for the client to read.
pub fn check_topic_setting(name: &str, value: &str) -> Result<(), String> {
    let key = topic_key(name).ok_or_else(|| format!("unknown topic configuration {name:?}"))?;
    key.kind
        .check(value)
        .map_err(|reason| format!("{name}={value}: {reason}"))
}

/// The broker key most like `name`, if one is near enough to be a typing error.
#[must_use]
pub fn closest_broker_key(name: &str) -> Option<&'static str> {
    BROKER_KEYS
        .iter()
        .map(|key| (distance(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| name)
}

fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted_for_binary_search_and_defaults_are_valid() {
        assert!(
            BROKER_KEYS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        assert!(
            TOPIC_KEYS
                .windows(2)
                .all(|pair| pair[0].name < pair[1].name)
        );
        for key in BROKER_KEYS {
            if let Some(default) = key.default {
                assert_eq!(key.kind.check(default), Ok(()), "{}", key.name);
            }
        }
    }

    #[test]
    fn settings_of_brokers_are_judged_before_they_are_made() {
        use Scope::{AllBrokers, OneBroker};
        for (scope, name, value, expected) in [
            (AllBrokers, "log.retention.ms", "5", Verdict::Dynamic),
            (OneBroker, "log.retention.hours", "5", Verdict::Dynamic),
            (OneBroker, "message.max.bytes", "5", Verdict::Dynamic),
            (OneBroker, LEADER_THROTTLED_RATE, "5", Verdict::Dynamic),
            (AllBrokers, "min.insync.replicas", "2", Verdict::Dynamic),
            (OneBroker, "min.insync.replicas", "2", Verdict::NeedsRestart),
            (AllBrokers, "node.id", "2", Verdict::NeedsRestart),
            (
                AllBrokers,
                "log.retention.mss",
                "2",
                Verdict::Unknown(
                    "unknown configuration key \"log.retention.mss\"; did you mean \"log.retention.ms\"?"
                        .to_owned(),
                ),
            ),
            (
                AllBrokers,
                "num.partitions",
                "0",
                Verdict::Invalid(
                    "num.partitions=0: must be between 1 and 2147483647".to_owned(),
                ),
            ),
        ] {
            assert_eq!(judge_broker_setting(scope, name, value), expected, "{name}");
            let accepted = check_dynamic_broker_setting(scope, name, value).is_ok();
            assert_eq!(accepted, expected == Verdict::Dynamic, "{name}");
        }
    }

    #[test]
    fn every_topic_key_has_a_default_of_its_own_or_the_brokers() {
        for key in TOPIC_KEYS {
            let fallback = key
                .fallbacks
                .last()
                .map(|(last, _)| broker_key(last).unwrap());
            let inherited = fallback.and_then(|key| key.default);
            assert_ne!(key.default.is_some(), inherited.is_some(), "{}", key.name);
        }
    }

    #[test]
    fn typing_errors_get_a_suggestion() {
        assert_eq!(
            closest_broker_key("log.segment.byte"),
            Some("log.segment.bytes")
        );
        assert_eq!(closest_broker_key("zookeeper.connect"), None);
    }
}
