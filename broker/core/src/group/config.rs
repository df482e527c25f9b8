//! The coordinator's limits: fixed ones, and those the broker's configuration sets.

use crate::Duration;

/// The member id of a client that has none yet.
pub const UNKNOWN_MEMBER_ID: &str = "";
/// Longest id or name, in bytes: what the record format can hold.
pub const ID_BYTES_MAX: usize = i16::MAX as usize;
/// Most protocols a member may offer.
pub const PROTOCOLS_MAX: usize = 64;
/// Largest subscription of a member over all protocols it offers.
pub const MEMBER_BYTES_MAX: usize = 1 << 20;
/// Largest member of a consumer group. Its record has to find room in the log, beyond whose
/// `max.message.bytes` none of the group could be written any more.
pub const CONSUMER_MEMBER_BYTES_MAX: usize = 900 << 10;
/// Most different regular expressions that the members of a consumer group subscribe by.
pub const REGEXES_MAX: usize = 32;
/// Memory that the members of one partition's groups may take; no more can join then.
pub const MEMBERS_BYTES_MAX: usize = 256 << 20;
/// Most groups in one partition.
pub const GROUPS_MAX: usize = 100_000;
/// Most committed offsets in one partition.
pub const OFFSETS_MAX: usize = 4_000_000;
/// Most appends under way; more commits and deletions are refused until some are done.
pub const APPENDS_MAX: usize = 10_000;

/// The coordinator's broker configuration.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members.
    pub initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`
    pub session_timeout_max: Duration,
    /// `group.max.size`: most members of a group.
    pub group_size_max: usize,
    /// `group.consumer.session.timeout.ms`
    pub consumer_session_timeout: Duration,
    /// `group.consumer.heartbeat.interval.ms`
    pub consumer_heartbeat_interval: Duration,
    /// `group.consumer.max.size`: most members of a consumer group.
    pub consumer_group_size_max: usize,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`
    pub offsets_retention: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            initial_rebalance_delay: Duration::from_secs(3),
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(30 * 60),
            group_size_max: 10_000,
            consumer_session_timeout: Duration::from_secs(45),
            consumer_heartbeat_interval: Duration::from_secs(5),
            consumer_group_size_max: 10_000,
            offset_metadata_bytes_max: 4096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}
