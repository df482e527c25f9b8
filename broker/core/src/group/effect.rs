//! What the shell must do after a `handle_*` call, and what the machine does once records are
//! durable.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::config::GroupConfig;
use super::consumer::ConsumerHeartbeat;
use super::error::GroupError;
use super::groups::Now;
use super::record::{Generation, GroupId, GroupRecord, Opaque};

/// Names a request that is answered later by [`Effect::Reply`]; chosen by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyToken(pub u64);

/// Names an [`Effect::Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AppendId(pub u64);

/// To be carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer a request. Each token is answered exactly once.
    Reply {
        token: ReplyToken,
        response: Response,
    },
    /// Append to the partition's log, wait until committed, then call
    /// [`handle_appended`](super::Groups::handle_appended), in the order of these effects.
    Append {
        id: AppendId,
        records: Arc<[GroupRecord]>,
    },
    /// Log one line: the group starts to rebalance (KIP-800).
    Rebalance {
        group: GroupId,
        generation: Generation,
        reason: RebalanceReason,
    },
}

/// Answer to a request that may have waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Join(Result<Joined, GroupError>),
    Sync(Result<Synced, GroupError>),
    /// One result for each offset of the request, in its order.
    CommitOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    Delete(Result<(), GroupError>),
    /// One result for each partition of the request, in its order.
    DeleteOffsets(Result<Vec<Result<(), GroupError>>, GroupError>),
    ConsumerHeartbeat(Result<ConsumerHeartbeat, GroupError>),
}

/// Answer to JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub generation: Generation,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member_id: String,
    /// Filled for the leader only, who assigns.
    pub members: Vec<JoinedMember>,
    /// Tells a returning static leader to keep the present assignment (KIP-814).
    pub skip_assignment: bool,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub subscription: Opaque,
}

/// Answer to SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Opaque,
}

/// Why a group rebalances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceReason {
    /// `client` is the reason the client gave (KIP-800).
    MemberJoined {
        member_id: String,
        client: Option<String>,
    },
    MemberLeft {
        member_id: String,
        client: Option<String>,
    },
    SubscriptionChanged {
        member_id: String,
        client: Option<String>,
    },
    LeaderRejoined {
        member_id: String,
        client: Option<String>,
    },
    StaticMemberReturned {
        member_id: String,
        instance_id: String,
    },
    SessionExpired {
        member_id: String,
    },
    /// Members that joined did not send SyncGroup within the rebalance timeout.
    SyncTimedOut {
        members: usize,
    },
    NotStored,
    /// A member of a consumer group did not give up its partitions, or join again, in time.
    ReconcileTimedOut {
        member_id: String,
    },
    /// Topics that members of a consumer group subscribe to.
    TopicsChanged,
    /// The last member of the consumer protocol left.
    ProtocolChanged,
}

impl RebalanceReason {
    /// The kind of reason, for counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::MemberJoined { .. } => "member_joined",
            Self::MemberLeft { .. } => "member_left",
            Self::SubscriptionChanged { .. } => "subscription_changed",
            Self::LeaderRejoined { .. } => "leader_rejoined",
            Self::StaticMemberReturned { .. } => "static_member_returned",
            Self::SessionExpired { .. } => "session_expired",
            Self::SyncTimedOut { .. } => "sync_timed_out",
            Self::NotStored => "not_stored",
            Self::ReconcileTimedOut { .. } => "reconcile_timed_out",
            Self::TopicsChanged => "topics_changed",
            Self::ProtocolChanged => "protocol_changed",
        }
    }
}

impl fmt::Display for RebalanceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = match self {
            Self::MemberJoined { member_id, client } => {
                write!(f, "member {member_id} joins")?;
                client
            }
            Self::MemberLeft { member_id, client } => {
                write!(f, "member {member_id} leaves")?;
                client
            }
            Self::SubscriptionChanged { member_id, client } => {
                write!(f, "member {member_id} changes its subscription")?;
                client
            }
            Self::LeaderRejoined { member_id, client } => {
                write!(f, "leader {member_id} joins again")?;
                client
            }
            Self::StaticMemberReturned {
                member_id,
                instance_id,
            } => {
                return write!(f, "static member {instance_id} returns as {member_id}");
            }
            Self::SessionExpired { member_id } => {
                return write!(f, "session of member {member_id} expired");
            }
            Self::SyncTimedOut { members } => {
                return write!(f, "{members} members did not sync in time");
            }
            Self::NotStored => return f.write_str("the group could not be stored"),
            Self::ReconcileTimedOut { member_id } => {
                return write!(f, "member {member_id} did not follow in time");
            }
            Self::TopicsChanged => return f.write_str("topics changed"),
            Self::ProtocolChanged => {
                return f.write_str("the group uses the classic protocol again");
            }
        };
        match client {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}

/// What happens once the records of an append are durable, or have failed to become so.
#[derive(Debug)]
pub(super) enum Then {
    CommitOffsets {
        token: ReplyToken,
        results: Vec<Result<(), GroupError>>,
    },
    StoreAssignment {
        generation: Generation,
        assignments: BTreeMap<String, Opaque>,
    },
    ReplaceStaticMember {
        token: ReplyToken,
        joined: Joined,
    },
    Delete {
        token: Option<ReplyToken>,
    },
    DeleteOffsets {
        /// Who asked for it, and what was decided for each partition.
        answer: Option<(ReplyToken, Vec<Result<(), GroupError>>)>,
    },
    StoreEmpty,
    /// Applied before, answered now.
    ConsumerHeartbeat {
        answer: Option<(ReplyToken, ConsumerHeartbeat)>,
    },
    ConsumerJoin {
        token: ReplyToken,
        joined: Joined,
    },
}

impl Then {
    pub(super) const fn is_about_offsets(&self) -> bool {
        matches!(
            self,
            Self::CommitOffsets { .. } | Self::DeleteOffsets { .. }
        )
    }
}

#[derive(Debug)]
pub(super) struct PendingAppend {
    pub(super) id: AppendId,
    pub(super) group: GroupId,
    pub(super) records: Arc<[GroupRecord]>,
    pub(super) then: Then,
}

/// Appends under way, oldest first.
#[derive(Debug, Default)]
pub(super) struct Appends {
    next_id: AppendId,
    pub(super) pending: VecDeque<PendingAppend>,
}

impl Appends {
    pub(super) const fn next_id(&self) -> AppendId {
        self.next_id
    }

    /// Whether tombstones of the group's offsets are under way.
    pub(super) fn delete_offsets_of(&self, group: &str) -> bool {
        let deletes = |pending: &PendingAppend| {
            matches!(pending.then, Then::DeleteOffsets { .. }) && *pending.group == *group
        };
        self.pending.iter().any(deletes)
    }
}

/// What a group may touch besides itself.
pub(super) struct Context<'a> {
    pub(super) now: Now,
    pub(super) config: &'a GroupConfig,
    pub(super) out: &'a mut Vec<Effect>,
    pub(super) appends: &'a mut Appends,
}

impl Context<'_> {
    pub(super) fn reply(&mut self, token: ReplyToken, response: Response) {
        self.out.push(Effect::Reply { token, response });
    }

    pub(super) fn append(&mut self, group: &GroupId, records: Vec<GroupRecord>, then: Then) {
        let id = self.appends.next_id;
        self.appends.next_id.0 += 1;
        let records: Arc<[GroupRecord]> = records.into();
        self.out.push(Effect::Append {
            id,
            records: Arc::clone(&records),
        });
        self.appends.pending.push_back(PendingAppend {
            id,
            group: group.clone(),
            records,
            then,
        });
    }
}
