//! Every decision a broker takes, with no IO, no clock, no randomness and no async: time, random
//! numbers and the outcome of IO are arguments, effects are return values.
//!
//! Two shapes:
//!
//! * a **machine** ([`partition`], [`fetch_session`], [`liveness`]) has methods, one for each event
//!   from outside, which return what the caller must do next;
//! * **replicated state** ([`metadata`], [`controller`], [`group`]) is changed by `apply(&Record)`
//!   only, the same for live, loading and following; `decide` turns a request into records and an
//!   answer and changes nothing.
#![no_std]

extern crate alloc;

pub mod client_quota;
pub mod controller;
pub mod fetch_session;
pub mod group;
mod ids;
pub mod lease;
pub mod liveness;
pub mod metadata;
pub mod mutation;
pub mod partition;
pub mod quorum;
mod rate;
pub mod slow_disk;
mod time;
pub mod transaction;

pub use ids::{
    BrokerEpoch, BrokerId, CoordinatorEpoch, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex,
    ProducerEpoch, ProducerId, TopicId, TopicPartition,
};
pub use rate::Rate;
pub use time::{Duration, Time, Timestamp};
