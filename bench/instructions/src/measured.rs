//! What callgrind counts: everything that these functions do, and nothing else. They are called by
//! name from outside, so they may not be inlined.

use anyhow::Result;
use bytes::Bytes;
use klamm_broker::api::Reply;

use crate::brokers::Brokers;

#[inline(never)]
pub(crate) fn produce(brokers: &Brokers, frame: Bytes) -> Result<Reply> {
    brokers.produce(frame)
}

#[inline(never)]
pub(crate) fn fetch(brokers: &Brokers, frame: Bytes) -> Result<Reply> {
    brokers.fetch(frame)
}

#[inline(never)]
pub(crate) fn replicate(brokers: &Brokers) -> Result<()> {
    brokers.replicate()
}
