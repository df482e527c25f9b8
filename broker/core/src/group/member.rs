//! One member of a group.

use alloc::string::String;
use alloc::vec::Vec;

use super::effect::{Context, JoinedMember, ReplyToken, Response};
use super::error::GroupError;
use super::record::{MemberMetadata, Opaque};
use crate::{Duration, Time};

/// How long a new member's JoinGroup may wait: it cannot heartbeat before it knows its id, and a
/// client that gave up and joined again would otherwise leave a ghost behind.
pub(super) const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(300);

/// What a member takes in memory besides its texts and subscriptions, roughly.
pub(super) const MEMBER_OVERHEAD_BYTES: usize = 512;

/// An assignor a member offers, with what the member says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Opaque,
}

/// The request of a member that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    No,
    Join(ReplyToken),
    Sync(ReplyToken),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    pub(super) protocols: Vec<Protocol>,
    pub(super) assignment: Opaque,
    pub(super) waiting: Waiting,
    pub(super) session_deadline: Time,
    /// Has not been part of a generation yet.
    pub(super) is_new: bool,
    /// Has sent SyncGroup in this generation.
    pub(super) has_synced: bool,
}

impl Member {
    pub(super) fn from_metadata(stored: &MemberMetadata, protocol: &str) -> Self {
        Self {
            instance_id: stored.instance_id.clone(),
            client_id: stored.client_id.clone(),
            client_host: stored.client_host.clone(),
            session_timeout: stored.session_timeout,
            rebalance_timeout: stored.rebalance_timeout,
            protocols: [Protocol {
                name: protocol.into(),
                metadata: stored.subscription.clone(),
            }]
            .into(),
            assignment: stored.assignment.clone(),
            waiting: Waiting::No,
            session_deadline: Time(0),
            is_new: false,
            has_synced: true,
        }
    }

    pub(super) fn metadata(
        &self,
        member_id: &str,
        protocol: &str,
        assignment: Opaque,
    ) -> MemberMetadata {
        MemberMetadata {
            member_id: member_id.into(),
            instance_id: self.instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout: self.rebalance_timeout,
            session_timeout: self.session_timeout,
            subscription: self.subscription(protocol),
            assignment,
        }
    }

    pub(super) fn joined(&self, member_id: &str, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: member_id.into(),
            instance_id: self.instance_id.clone(),
            subscription: self.subscription(protocol),
        }
    }

    /// What the member says to `protocol`; nothing if it does not offer it.
    pub(super) fn subscription(&self, protocol: &str) -> Opaque {
        self.protocols
            .iter()
            .find(|offered| offered.name == protocol)
            .map_or_else(|| Opaque::from([]), |offered| offered.metadata.clone())
    }

    pub(super) fn offers(&self, protocol: &str) -> bool {
        self.protocols
            .iter()
            .any(|offered| offered.name == protocol)
    }

    pub(super) fn is_awaiting_join(&self) -> bool {
        matches!(self.waiting, Waiting::Join(_))
    }

    /// When the member is given up, if nothing is heard from it. A member whose request the
    /// coordinator holds back cannot heartbeat, so its session stands still.
    pub(super) fn deadline(&self) -> Option<Time> {
        (self.is_new || self.waiting == Waiting::No).then_some(self.session_deadline)
    }

    /// Answers the waiting request, if any, with `error`.
    pub(super) fn refuse(&mut self, cx: &mut Context<'_>, error: GroupError) {
        match core::mem::replace(&mut self.waiting, Waiting::No) {
            Waiting::No => {}
            Waiting::Join(token) => cx.reply(token, Response::Join(Err(error))),
            Waiting::Sync(token) => cx.reply(token, Response::Sync(Err(error))),
        }
    }

    /// Holds `waiting` back. An earlier request of the same member is answered: its client has
    /// given it up.
    pub(super) fn park(&mut self, cx: &mut Context<'_>, waiting: Waiting) {
        self.refuse(cx, GroupError::RebalanceInProgress);
        self.waiting = waiting;
    }

    /// Bytes the member keeps in memory.
    pub(super) fn bytes(&self) -> usize {
        let protocols: usize = self
            .protocols
            .iter()
            .map(|offered| offered.name.len() + offered.metadata.len())
            .sum();
        let instance_id = self.instance_id.as_ref().map_or(0, String::len);
        MEMBER_OVERHEAD_BYTES
            + protocols
            + instance_id
            + self.client_id.len()
            + self.client_host.len()
    }
}
