//! Which change of the metadata quorum's members is safe (KIP-853).
//!
//! A member is a broker together with the directory that holds its log: a broker that lost its disk
//! comes back as somebody else, and whatever the old one has voted for or stored is not asked of the
//! new one.
//!
//! Invariant: after every plan a majority of the voters is reachable, and a new voter has the log.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::BrokerId;

/// Voters of one quorum.
pub const VOTERS_MAX: usize = 9;
/// Learners of one quorum.
pub const LEARNERS_MAX: usize = 4;
/// A learner with no more entries than this before it can be promoted.
pub const PROMOTION_LAG_MAX: u64 = 100;

/// UUID of the directory with a broker's metadata log, made when the directory was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DirectoryId(pub [u8; 16]);

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::TopicId(self.0), f)
    }
}

impl fmt::Debug for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A member of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterKey {
    pub id: BrokerId,
    pub directory: DirectoryId,
}

impl fmt::Display for VoterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with directory {}", self.id, self.directory)
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Voter,
    /// Gets the log, but neither votes nor counts for commits.
    Learner,
}

/// A member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub key: VoterKey,
    pub role: Role,
    /// Has answered within the election time-out.
    pub reachable: bool,
    /// Entries that it is behind the leader; `None` when that is not known.
    pub lag: Option<u64>,
}

/// A request to change the members or the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumChange {
    /// The broker gets the log from now on.
    AddLearner(VoterKey),
    /// The learner votes from now on.
    PromoteVoter(VoterRef),
    /// The voter or learner is a member no longer.
    RemoveVoter(VoterRef),
    /// Another voter leads: the given one, or the one with the longest log.
    TransferLeadership(Option<BrokerId>),
}

/// Names a member; without a directory, the only one of that broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterRef {
    pub id: BrokerId,
    pub directory: Option<DirectoryId>,
}

/// What the leader does for a [`QuorumChange`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuorumPlan {
    /// It is so already.
    Nothing,
    Add(VoterKey),
    Promote(VoterKey),
    Remove(VoterKey),
    /// Leadership moves there. A removal goes on with the new leader.
    Transfer(VoterKey),
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumRefusal {
    #[error("another change of the quorum is under way; try again")]
    ChangeInProgress,
    #[error("broker {0} is not registered; start it first")]
    UnknownBroker(BrokerId),
    #[error("broker {id} has directory {found}, not {expected}; ask for the one it has")]
    DirectoryMismatch {
        id: BrokerId,
        expected: DirectoryId,
        found: DirectoryId,
    },
    #[error("broker {0} is a member already; remove that one first")]
    DuplicateVoter(VoterKey),
    #[error("the quorum has no such member: {}", name(.0))]
    UnknownVoter(VoterRef),
    #[error("broker {id} has not caught up: {}; wait", distance(*.lag))]
    NotCaughtUp { id: BrokerId, lag: Option<u64> },
    #[error(
        "only {reachable} of the {voters} voters that this leaves can be reached, which is no majority; \
         bring voters back first"
    )]
    NoMajority { reachable: usize, voters: usize },
    #[error("the last voter cannot be removed; promote another one first")]
    LastVoter,
    #[error("the quorum has {0} such members, as many as it can; remove one first")]
    TooMany(usize),
    #[error("no other voter can take over; bring one back first")]
    NoSuccessor,
    #[error("the request is malformed: {0}")]
    Malformed(String),
}

fn name(voter: &VoterRef) -> String {
    match voter.directory {
        Some(directory) => alloc::format!("broker {} with directory {directory}", voter.id),
        None => alloc::format!("broker {}", voter.id),
    }
}

fn distance(entries: Option<u64>) -> String {
    match entries {
        Some(entries) => alloc::format!("it is {entries} entries behind"),
        None => String::from("the leader has not reached it"),
    }
}

/// The members in the eyes of their leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumView {
    pub leader: VoterKey,
    pub members: Vec<Member>,
}

impl QuorumView {
    /// What `change` comes to.
    ///
    /// # Errors
    /// Why it must not happen, or not now.
    pub fn plan(&self, change: &QuorumChange) -> Result<QuorumPlan, QuorumRefusal> {
        match *change {
            QuorumChange::AddLearner(key) => self.add(key),
            QuorumChange::PromoteVoter(voter) => self.promote(voter),
            QuorumChange::RemoveVoter(voter) => self.remove(voter),
            QuorumChange::TransferLeadership(to) => self.transfer(to),
        }
    }

    fn add(&self, key: VoterKey) -> Result<QuorumPlan, QuorumRefusal> {
        let same_broker = |member: &&Member| member.key.id == key.id;
        if let Some(known) = self.members.iter().find(same_broker) {
            return if known.key == key {
                Ok(QuorumPlan::Nothing)
            } else {
                Err(QuorumRefusal::DuplicateVoter(known.key))
            };
        }
        if self.count(Role::Learner) >= LEARNERS_MAX {
            return Err(QuorumRefusal::TooMany(LEARNERS_MAX));
        }
        Ok(QuorumPlan::Add(key))
    }

    fn promote(&self, voter: VoterRef) -> Result<QuorumPlan, QuorumRefusal> {
        let member = self.member(voter)?;
        if member.role == Role::Voter {
            return Ok(QuorumPlan::Nothing);
        }
        if self.count(Role::Voter) >= VOTERS_MAX {
            return Err(QuorumRefusal::TooMany(VOTERS_MAX));
        }
        if !member.reachable || member.lag.is_none_or(|lag| lag > PROMOTION_LAG_MAX) {
            let lag = member.lag.filter(|_| member.reachable);
            return Err(QuorumRefusal::NotCaughtUp { id: voter.id, lag });
        }
        self.check_majority(|other| other.role == Role::Voter || other.key == member.key)?;
        Ok(QuorumPlan::Promote(member.key))
    }

    fn remove(&self, voter: VoterRef) -> Result<QuorumPlan, QuorumRefusal> {
        let member = self.member(voter)?;
        if member.role == Role::Learner {
            return Ok(QuorumPlan::Remove(member.key));
        }
        if self.count(Role::Voter) == 1 {
            return Err(QuorumRefusal::LastVoter);
        }
        self.check_majority(|other| other.role == Role::Voter && other.key != member.key)?;
        if member.key == self.leader {
            return self.successor().map(QuorumPlan::Transfer);
        }
        Ok(QuorumPlan::Remove(member.key))
    }

    fn transfer(&self, to: Option<BrokerId>) -> Result<QuorumPlan, QuorumRefusal> {
        let Some(id) = to else {
            return self.successor().map(QuorumPlan::Transfer);
        };
        let target = self.member(VoterRef {
            id,
            directory: None,
        })?;
        if target.key == self.leader {
            return Ok(QuorumPlan::Nothing);
        }
        if target.role == Role::Learner || !target.reachable {
            return Err(QuorumRefusal::NoSuccessor);
        }
        Ok(QuorumPlan::Transfer(target.key))
    }

    /// The reachable voter with the longest log, the leader aside.
    ///
    /// # Errors
    /// When there is none.
    pub fn successor(&self) -> Result<VoterKey, QuorumRefusal> {
        let others = self.members.iter().filter(|member| {
            member.role == Role::Voter && member.key != self.leader && member.reachable
        });
        let closest = others.min_by_key(|member| member.lag.unwrap_or(u64::MAX));
        let closest = closest.ok_or(QuorumRefusal::NoSuccessor)?;
        Ok(closest.key)
    }

    fn member(&self, voter: VoterRef) -> Result<&Member, QuorumRefusal> {
        let named = |member: &&Member| {
            member.key.id == voter.id
                && voter
                    .directory
                    .is_none_or(|directory| directory == member.key.directory)
        };
        let member = self.members.iter().find(named);
        member.ok_or(QuorumRefusal::UnknownVoter(voter))
    }

    fn count(&self, role: Role) -> usize {
        self.members
            .iter()
            .filter(|member| member.role == role)
            .count()
    }

    fn check_majority(&self, votes: impl Fn(&Member) -> bool) -> Result<(), QuorumRefusal> {
        let voters = self.members.iter().filter(|member| votes(member));
        let (mut count, mut reachable) = (0, 0);
        for voter in voters {
            count += 1;
            reachable += usize::from(voter.reachable);
        }
        if reachable * 2 > count {
            Ok(())
        } else {
            Err(QuorumRefusal::NoMajority {
                reachable,
                voters: count,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn key(id: i32) -> VoterKey {
        VoterKey {
            id: BrokerId(id),
            directory: DirectoryId([id as u8; 16]),
        }
    }

    fn named(id: i32) -> VoterRef {
        VoterRef {
            id: BrokerId(id),
            directory: None,
        }
    }

    /// Voters 0 to 2, led by 0, and learner 3.
    fn view() -> QuorumView {
        let member = |id: i32| Member {
            key: key(id),
            role: if id < 3 { Role::Voter } else { Role::Learner },
            reachable: true,
            lag: Some(0),
        };
        QuorumView {
            leader: key(0),
            members: (0..4).map(member).collect(),
        }
    }

    #[test]
    fn a_learner_is_promoted_once_it_has_caught_up() {
        let promote = QuorumChange::PromoteVoter(named(3));
        let mut view = view();
        assert_eq!(view.plan(&promote), Ok(QuorumPlan::Promote(key(3))));
        view.members[3].lag = Some(PROMOTION_LAG_MAX + 1);
        assert!(matches!(
            view.plan(&promote),
            Err(QuorumRefusal::NotCaughtUp { lag: Some(101), .. })
        ));
        view.members[3].lag = None;
        assert!(matches!(
            view.plan(&promote),
            Err(QuorumRefusal::NotCaughtUp { .. })
        ));
        let unknown = QuorumChange::PromoteVoter(named(4));
        assert_eq!(
            view.plan(&unknown),
            Err(QuorumRefusal::UnknownVoter(named(4)))
        );
        let voter = QuorumChange::PromoteVoter(named(1));
        assert_eq!(view.plan(&voter), Ok(QuorumPlan::Nothing));
    }

    #[test]
    fn no_change_leaves_fewer_than_a_majority_reachable() {
        let mut view = view();
        view.members[1].reachable = false;
        let plan = |view: &QuorumView, id| view.plan(&QuorumChange::RemoveVoter(named(id)));
        assert_eq!(
            plan(&view, 1),
            Ok(QuorumPlan::Remove(key(1))),
            "the dead one goes"
        );
        assert_eq!(
            plan(&view, 2),
            Err(QuorumRefusal::NoMajority {
                reachable: 1,
                voters: 2
            })
        );
        view.members[2].reachable = false;
        assert_eq!(
            view.plan(&QuorumChange::PromoteVoter(named(3))),
            Err(QuorumRefusal::NoMajority {
                reachable: 2,
                voters: 4
            })
        );
        view.members = vec![view.members[0]];
        assert_eq!(plan(&view, 0), Err(QuorumRefusal::LastVoter));
    }

    #[test]
    fn a_broker_with_another_directory_is_somebody_else() {
        let view = view();
        let mut replaced = key(1);
        replaced.directory = DirectoryId([99; 16]);
        assert_eq!(
            view.plan(&QuorumChange::AddLearner(replaced)),
            Err(QuorumRefusal::DuplicateVoter(key(1)))
        );
        let named = VoterRef {
            id: BrokerId(1),
            directory: Some(replaced.directory),
        };
        assert_eq!(
            view.plan(&QuorumChange::RemoveVoter(named)),
            Err(QuorumRefusal::UnknownVoter(named))
        );
        assert_eq!(
            view.plan(&QuorumChange::AddLearner(key(1))),
            Ok(QuorumPlan::Nothing)
        );
        assert_eq!(
            view.plan(&QuorumChange::AddLearner(key(7))),
            Ok(QuorumPlan::Add(key(7)))
        );
    }

    #[test]
    fn a_leader_that_is_removed_hands_over_first() {
        let mut view = view();
        view.members[1].lag = Some(5);
        let remove = QuorumChange::RemoveVoter(named(0));
        assert_eq!(view.plan(&remove), Ok(QuorumPlan::Transfer(key(2))));
        let transfer = |to: i32| QuorumChange::TransferLeadership(Some(BrokerId(to)));
        assert_eq!(view.plan(&transfer(1)), Ok(QuorumPlan::Transfer(key(1))));
        assert_eq!(view.plan(&transfer(0)), Ok(QuorumPlan::Nothing));
        assert_eq!(view.plan(&transfer(3)), Err(QuorumRefusal::NoSuccessor));
        view.members[1].reachable = false;
        view.members[2].reachable = false;
        assert_eq!(
            view.plan(&QuorumChange::TransferLeadership(None)),
            Err(QuorumRefusal::NoSuccessor)
        );
    }
}
