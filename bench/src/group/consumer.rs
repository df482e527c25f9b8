//! A member of the consumer protocol (KIP-848), which takes and gives up partitions as it is told.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use broker_wire::message::consumer_group_heartbeat::ConsumerGroupTopicPartitions;
use broker_wire::message::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use broker_wire::{ErrorCode, Str};
use tokio::time::sleep;

use super::progress::Position;
use super::{Member, REBALANCE_TIMEOUT_MS, RETRY_AFTER};

const HEARTBEAT_VERSION: i16 = 1;
const JOIN: i32 = 0;
const LEAVE: i32 = -1;

/// How much a heartbeat says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Also what it subscribes to: it joins, or its last heartbeat was answered with an error, and may
    /// have had an effect that it was not told of.
    Everything,
    /// What it has now.
    Owned,
    /// That it is alive.
    Nothing,
}

/// Joins, and does as it is told until it is to leave.
pub(super) async fn run(mut member: Member) -> Result<()> {
    let member_id = Str::from(format!("{}-{}", std::process::id(), member.place.member));
    let mut epoch = JOIN;
    let mut owned: Vec<ConsumerGroupTopicPartitions> = Vec::new();
    let mut says = Says::Everything;
    let mut is_first = true;
    loop {
        let request = ConsumerGroupHeartbeatRequest {
            member_id: member_id.clone(),
            member_epoch: epoch,
            topic_partitions: (says != Says::Nothing).then(|| owned.clone()),
            ..member.request(says)
        };
        let beaten = member.beat(&request).await?;
        match beaten.error_code {
            ErrorCode::None => {}
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                (epoch, says) = (JOIN, Says::Everything);
                owned.clear();
                continue;
            }
            error if error.retriable() => {
                says = Says::Everything;
                sleep(RETRY_AFTER).await;
                continue;
            }
            error => bail!("a heartbeat is refused: {error:?}"),
        }
        epoch = beaten.member_epoch;
        says = Says::Nothing;
        if let Some(assignment) = beaten.assignment
            && assignment.topic_partitions != owned
        {
            says = Says::Owned;
            owned = assignment.topic_partitions;
        }
        let partitions = owned.iter().map(|topic| topic.partitions.len()).sum();
        let position = Position { epoch, partitions };
        member.progress.reached(member.place, position);
        let interval_ms = u64::try_from(beaten.heartbeat_interval_ms)?;
        let mut interval = Duration::from_millis(interval_ms);
        if std::mem::take(&mut is_first) {
            interval = member.first_interval(interval);
        }
        // What is taken or given up is said at once.
        if says == Says::Nothing && member.rest(interval).await {
            return member.leave(member_id).await;
        }
    }
}

impl Member {
    fn request(&self, says: Says) -> ConsumerGroupHeartbeatRequest {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        match says {
            Says::Owned | Says::Nothing => request,
            Says::Everything => ConsumerGroupHeartbeatRequest {
                rebalance_timeout_ms: REBALANCE_TIMEOUT_MS,
                subscribed_topic_names: Some(vec![self.topic.clone()]),
                ..request
            },
        }
    }

    async fn beat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse> {
        self.connection.call(HEARTBEAT_VERSION, request).await
    }

    async fn leave(mut self, member_id: Str) -> Result<()> {
        let request = ConsumerGroupHeartbeatRequest {
            member_id,
            member_epoch: LEAVE,
            ..self.request(Says::Nothing)
        };
        let left = self.beat(&request).await?;
        ensure!(left.error_code == ErrorCode::None, "{:?}", left.error_code);
        Ok(())
    }
}
