//! Blocks of producer ids, given to brokers so that each can hand out single ids on its own.

use super::command::BrokerRef;
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::response::{ProducerIdBlock, Response};
use crate::metadata::{ProducerIds, Record};

/// Ids in a block.
pub const PRODUCER_ID_BLOCK_SIZE: i32 = 1_000;

pub(super) fn allocate(draft: &mut Draft, broker: BrokerRef) -> Result<Response, Failure> {
    draft.registered(broker)?;
    let first = draft.image().next_producer_id.0;
    let next_producer_id = first
        .checked_add(i64::from(PRODUCER_ID_BLOCK_SIZE))
        .ok_or_else(|| {
            Failure::new(
                CommandError::LimitExceeded,
                "all producer ids are given out",
            )
        })?;
    draft.push(Record::ProducerIds(ProducerIds { next_producer_id }));
    Ok(Response::AllocateProducerIds(ProducerIdBlock {
        first,
        count: PRODUCER_ID_BLOCK_SIZE,
    }))
}
