//! Rebalance flows, step by step.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::consumer_protocol::tests::subscription;
use super::*;
use crate::{Duration, LeaderEpoch, Offset, PartitionIndex, Time, Timestamp, TopicId};

const GROUP: &str = "orders";
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(60);
const START: Timestamp = Timestamp(1_700_000_000_000);

/// A cluster without topics.
pub(super) struct NoTopics;

impl Topics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn find(&self, _name: &str) -> Option<(TopicId, u32)> {
        None
    }

    fn matching(&self, _regex: &str) -> Vec<String> {
        Vec::new()
    }
}

fn replay(groups: &mut Groups, log: &[GroupRecord]) {
    let at = (0..).map(Offset);
    at.zip(log)
        .for_each(|(at, record)| groups.apply(record, at));
}

/// A coordinator whose appends are committed at once, or when the test says so.
struct Fixture {
    groups: Groups,
    time: Time,
    next_token: u64,
    replies: BTreeMap<ReplyToken, Response>,
    log: Vec<GroupRecord>,
    held: Option<Vec<AppendId>>,
    reasons: Vec<RebalanceReason>,
}

impl Fixture {
    fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Self {
        Self {
            groups: Groups::new(config),
            time: Time(0),
            next_token: 0,
            replies: BTreeMap::new(),
            log: Vec::new(),
            held: None,
            reasons: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        let elapsed = i64::try_from(self.time.0).unwrap();
        Now {
            time: self.time,
            timestamp: Timestamp(START.0 + elapsed),
        }
    }

    fn token(&mut self) -> ReplyToken {
        self.next_token += 1;
        ReplyToken(self.next_token)
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => {
                    assert!(
                        self.replies.insert(token, response).is_none(),
                        "answered twice"
                    );
                }
                Effect::Append { id, records } => {
                    self.log.extend(records.iter().cloned());
                    match &mut self.held {
                        Some(held) => held.push(id),
                        None => self.appended(id, Ok(self.log_end())),
                    }
                }
                Effect::Rebalance { reason, .. } => self.reasons.push(reason),
            }
        }
    }

    fn log_end(&self) -> Offset {
        Offset(self.log.len() as i64)
    }

    fn appended(&mut self, id: AppendId, result: Result<Offset, AppendError>) {
        let mut out = Vec::new();
        self.groups
            .handle_appended(self.now(), id, result, &mut out);
        self.perform(out);
    }

    /// Lets time pass, ticking at every deadline on the way.
    fn advance(&mut self, by: Duration) {
        let end = self.time.plus(by);
        while let Some(at) = self.groups.next_deadline().filter(|at| *at <= end) {
            self.time = self.time.max(at);
            let mut out = Vec::new();
            self.groups.handle_tick(self.now(), &mut out);
            self.perform(out);
        }
        self.time = end;
    }

    fn join(&mut self, request: JoinRequest) -> ReplyToken {
        let token = self.token();
        let mut out = Vec::new();
        self.groups
            .handle_join(self.now(), request, &NoTopics, token, &mut out);
        self.perform(out);
        token
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&str, &str)]) -> ReplyToken {
        let request = SyncRequest {
            group: GROUP.into(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .iter()
                .map(|(id, part)| ((*id).to_owned(), opaque(part)))
                .collect(),
        };
        let token = self.token();
        let mut out = Vec::new();
        self.groups
            .handle_sync(self.now(), request, token, &mut out);
        self.perform(out);
        token
    }

    fn heartbeat(&mut self, joined: &Joined) -> Result<(), GroupError> {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            instance_id: None,
        };
        self.groups.handle_heartbeat(self.now(), &request)
    }

    fn leave(&mut self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        let leaving = LeavingMember {
            member_id: member_id.into(),
            instance_id: instance_id.map(Into::into),
            reason: None,
        };
        let request = LeaveRequest {
            group: GROUP.into(),
            members: vec![leaving],
        };
        let mut out = Vec::new();
        let results = self
            .groups
            .handle_leave(self.now(), request, &mut out)
            .unwrap();
        self.perform(out);
        results.into_iter().next().unwrap()
    }

    fn commit(&mut self, member_id: &str, generation: Generation, metadata: &str) -> ReplyToken {
        let offset = OffsetToCommit {
            topic: "payments".into(),
            partition: PartitionIndex(0),
            offset: Offset(42),
            leader_epoch: LeaderEpoch(3),
            metadata: metadata.into(),
            expire_timestamp: None,
        };
        let request = CommitRequest {
            group: GROUP.into(),
            member_id: member_id.into(),
            instance_id: None,
            generation,
            offsets: vec![offset],
        };
        let token = self.token();
        let mut out = Vec::new();
        self.groups
            .handle_commit(self.now(), request, token, &mut out);
        self.perform(out);
        token
    }

    fn delete(&mut self) -> Result<(), GroupError> {
        let token = self.token();
        let mut out = Vec::new();
        self.groups
            .handle_delete(self.now(), GROUP, token, &mut out);
        self.perform(out);
        match self.replies.remove(&token) {
            Some(Response::Delete(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn delete_offsets(
        &mut self,
        topics: &[&str],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let partition = |topic: &&str| ((*topic).into(), PartitionIndex(0));
        let request = DeleteOffsetsRequest {
            group: GROUP.into(),
            partitions: topics.iter().map(partition).collect(),
        };
        let token = self.token();
        let mut out = Vec::new();
        self.groups
            .handle_delete_offsets(self.now(), &request, token, &mut out);
        self.perform(out);
        match self.replies.remove(&token) {
            Some(Response::DeleteOffsets(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    /// Passes so much more of the offsets' retention.
    fn expire(&mut self, after: Duration) -> Option<GroupState> {
        let after_ms = i64::try_from(after.as_millis()).unwrap();
        let now = Now {
            timestamp: Timestamp(self.now().timestamp.0 + after_ms),
            ..self.now()
        };
        let mut out = Vec::new();
        self.groups.expire_offsets(now, &mut out);
        self.perform(out);
        self.state()
    }

    /// A stable group of one consumer that subscribes to these topics and commits for `payments`.
    fn stable_consumer(&mut self, topics: &[&str]) -> Joined {
        let request = JoinRequest {
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: subscription(topics).into(),
            }],
            ..new_member("a")
        };
        let join = self.join(request);
        self.advance(Duration::from_secs(6));
        let a = self.joined(join).unwrap();
        let sync = self.sync(&a, &[(&a.member_id, "all")]);
        assert_eq!(self.assignment(sync), Ok(opaque("all")));
        let commit = self.commit(&a.member_id, a.generation, "");
        assert_eq!(self.committed(commit), Ok(vec![Ok(())]));
        a
    }

    fn joined(&mut self, token: ReplyToken) -> Result<Joined, GroupError> {
        match self.replies.remove(&token) {
            Some(Response::Join(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn assignment(&mut self, token: ReplyToken) -> Result<Opaque, GroupError> {
        match self.replies.remove(&token) {
            Some(Response::Sync(result)) => result.map(|synced| synced.assignment),
            other => panic!("{other:?}"),
        }
    }

    fn committed(&mut self, token: ReplyToken) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        match self.replies.remove(&token) {
            Some(Response::CommitOffsets(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn state(&self) -> Option<GroupState> {
        self.groups
            .describe(GROUP)
            .map(|description| description.state)
    }

    /// Members `a` and `b` in a stable group; `a` leads.
    fn stable_pair(&mut self) -> (Joined, Joined) {
        let (a, b) = (self.join(new_member("a")), self.join(new_member("b")));
        self.advance(Duration::from_secs(6));
        let (a, b) = (self.joined(a).unwrap(), self.joined(b).unwrap());
        let sync_b = self.sync(&b, &[]);
        let sync_a = self.sync(&a, &[(&a.member_id, "part 0"), (&b.member_id, "part 1")]);
        assert_eq!(self.assignment(sync_a), Ok(opaque("part 0")));
        assert_eq!(self.assignment(sync_b), Ok(opaque("part 1")));
        (a, b)
    }
}

fn opaque(text: &str) -> Opaque {
    Arc::from(text.as_bytes())
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    names
        .iter()
        .map(|name| Protocol {
            name: (*name).into(),
            metadata: opaque(name),
        })
        .collect()
}

fn new_member(client: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member_id: UNKNOWN_MEMBER_ID.into(),
        instance_id: None,
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".into(),
        protocols: protocols(&["range"]),
        reason: None,
        features: JoinFeatures::default(),
        member_id_suffix: "1".into(),
    }
}

fn known(joined: &Joined) -> JoinRequest {
    JoinRequest {
        member_id: joined.member_id.clone(),
        ..new_member("again")
    }
}

fn static_member(instance: &str, suffix: &str) -> JoinRequest {
    JoinRequest {
        instance_id: Some(instance.into()),
        member_id_suffix: suffix.into(),
        ..new_member("s")
    }
}

#[test]
fn two_members_join_and_the_leader_assigns() {
    let mut fixture = Fixture::new();
    let (a, b) = (fixture.join(new_member("a")), fixture.join(new_member("b")));
    fixture.advance(Duration::from_secs(2));
    assert!(
        fixture.replies.is_empty(),
        "the first rebalance waits for more members"
    );
    fixture.advance(Duration::from_secs(4));
    let (a, b) = (fixture.joined(a).unwrap(), fixture.joined(b).unwrap());
    assert_eq!((a.generation, b.generation), (Generation(1), Generation(1)));
    assert_eq!((a.leader.as_str(), b.leader.as_str()), ("a-1", "a-1"));
    let members: Vec<_> = a
        .members
        .iter()
        .map(|member| member.member_id.as_str())
        .collect();
    assert_eq!(members, ["a-1", "b-1"]);
    assert!(b.members.is_empty(), "followers learn no members");

    let sync_b = fixture.sync(&b, &[]);
    assert!(fixture.replies.is_empty(), "waits for the leader");
    fixture.held = Some(Vec::new());
    let sync_a = fixture.sync(&a, &[("a-1", "x"), ("b-1", "y"), ("stranger", "z")]);
    assert!(
        fixture.replies.is_empty(),
        "waits until the assignment is durable"
    );
    assert_eq!(fixture.heartbeat(&b), Ok(()));
    let id = fixture.held.take().unwrap()[0];
    fixture.appended(id, Ok(fixture.log_end()));
    assert_eq!(fixture.assignment(sync_a), Ok(opaque("x")));
    assert_eq!(fixture.assignment(sync_b), Ok(opaque("y")));
    assert_eq!(fixture.state(), Some(GroupState::Stable));
}

#[test]
fn a_newcomer_rebalances_a_stable_group() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    let c = fixture.join(new_member("c"));
    assert_eq!(fixture.heartbeat(&a), Err(GroupError::RebalanceInProgress));
    let late = fixture.sync(&b, &[]);
    assert_eq!(
        fixture.assignment(late),
        Err(GroupError::RebalanceInProgress)
    );
    let commit = fixture.commit(&a.member_id, a.generation, "");
    assert_eq!(
        fixture.committed(commit),
        Ok(vec![Ok(())]),
        "members may commit what they did"
    );
    let (a, b) = (fixture.join(known(&a)), fixture.join(known(&b)));
    let (a, b, c) = (
        fixture.joined(a).unwrap(),
        fixture.joined(b).unwrap(),
        fixture.joined(c).unwrap(),
    );
    assert_eq!(
        [a.generation, b.generation, c.generation],
        [Generation(2); 3]
    );
    assert_eq!(a.members.len(), 3);
    let commit = fixture.commit(&a.member_id, a.generation, "");
    assert_eq!(
        fixture.committed(commit),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn members_that_do_not_rejoin_are_left_behind() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    let rejoin = fixture.join(known(&a));
    for _ in 0..12 {
        assert_eq!(fixture.heartbeat(&b), Err(GroupError::RebalanceInProgress));
        fixture.advance(Duration::from_secs(5));
    }
    let joined = fixture.joined(rejoin).unwrap();
    assert_eq!(joined.members.len(), 1);
    assert_eq!(fixture.heartbeat(&b), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_silent_member_loses_its_session() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    fixture.advance(Duration::from_secs(9));
    assert_eq!(fixture.heartbeat(&a), Ok(()));
    fixture.advance(Duration::from_secs(2));
    assert_eq!(fixture.heartbeat(&a), Err(GroupError::RebalanceInProgress));
    assert_eq!(fixture.heartbeat(&b), Err(GroupError::UnknownMemberId));
    let reason = RebalanceReason::SessionExpired {
        member_id: b.member_id,
    };
    assert_eq!(fixture.reasons.last(), Some(&reason));
}

#[test]
fn members_that_do_not_sync_are_given_up() {
    let mut fixture = Fixture::new();
    let (a, b) = (fixture.join(new_member("a")), fixture.join(new_member("b")));
    fixture.advance(Duration::from_secs(6));
    let (a, b) = (fixture.joined(a).unwrap(), fixture.joined(b).unwrap());
    let sync = fixture.sync(&b, &[]);
    for _ in 0..12 {
        assert_eq!(fixture.heartbeat(&a), Ok(()));
        fixture.advance(Duration::from_secs(5));
    }
    assert_eq!(
        fixture.assignment(sync),
        Err(GroupError::RebalanceInProgress)
    );
    assert_eq!(fixture.heartbeat(&a), Err(GroupError::UnknownMemberId));
    let rejoin = fixture.join(known(&b));
    assert_eq!(fixture.joined(rejoin).unwrap().leader, b.member_id);
}

#[test]
fn a_new_member_takes_its_id_first() {
    let mut fixture = Fixture::new();
    let features = JoinFeatures {
        member_id_required: true,
        ..JoinFeatures::default()
    };
    let first = fixture.join(JoinRequest {
        features,
        ..new_member("a")
    });
    assert_eq!(
        fixture.joined(first),
        Err(GroupError::MemberIdRequired {
            member_id: "a-1".into()
        })
    );
    let request = JoinRequest {
        member_id: "a-1".into(),
        features,
        ..new_member("a")
    };
    let second = fixture.join(request);
    fixture.advance(Duration::from_secs(6));
    assert_eq!(fixture.joined(second).unwrap().member_id, "a-1");
}

#[test]
fn an_id_that_is_not_used_is_forgotten() {
    let mut fixture = Fixture::new();
    let features = JoinFeatures {
        member_id_required: true,
        ..JoinFeatures::default()
    };
    let token = fixture.join(JoinRequest {
        features,
        ..new_member("a")
    });
    assert!(fixture.joined(token).is_err());
    assert_eq!(fixture.state(), Some(GroupState::Empty));
    fixture.advance(SESSION);
    assert_eq!(fixture.state(), None, "an unused group takes no memory");
    let token = fixture.join(JoinRequest {
        member_id: "a-1".into(),
        features,
        ..new_member("a")
    });
    assert_eq!(fixture.joined(token), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_pending_member_holds_up_the_join_phase_until_it_expires() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    let features = JoinFeatures {
        member_id_required: true,
        ..JoinFeatures::default()
    };
    let pending = fixture.join(JoinRequest {
        features,
        ..new_member("c")
    });
    assert!(fixture.joined(pending).is_err());
    let (a, b) = (fixture.join(known(&a)), fixture.join(known(&b)));
    fixture.advance(SESSION.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(fixture.replies.is_empty(), "the third member may yet join");
    fixture.advance(Duration::from_millis(1));
    assert_eq!(fixture.joined(a).unwrap().generation, Generation(2));
    assert_eq!(fixture.joined(b).unwrap().generation, Generation(2));
}

#[test]
fn a_full_group_takes_nobody() {
    let mut fixture = Fixture::with(GroupConfig {
        group_size_max: 2,
        ..GroupConfig::default()
    });
    let (a, _) = fixture.stable_pair();
    let refused = fixture.join(new_member("c"));
    assert_eq!(
        fixture.joined(refused),
        Err(GroupError::GroupMaxSizeReached)
    );
    assert_eq!(fixture.leave(&a.member_id, None), Ok(()));
    let accepted = fixture.join(new_member("c"));
    assert!(
        !fixture.replies.contains_key(&accepted),
        "there is room now"
    );
}

#[test]
fn bad_joins_are_refused() {
    let mut fixture = Fixture::new();
    fixture.stable_pair();
    let base = || new_member("c");
    let session_timeout = Duration::from_secs(1);
    let metadata = Arc::from(vec![0; MEMBER_BYTES_MAX + 1]);
    let large = vec![Protocol {
        name: "range".into(),
        metadata,
    }];
    let cases = [
        (
            JoinRequest {
                group: "".into(),
                ..base()
            },
            GroupError::InvalidGroupId,
        ),
        (
            JoinRequest {
                session_timeout,
                ..base()
            },
            GroupError::InvalidSessionTimeout,
        ),
        (
            JoinRequest {
                protocols: large,
                ..base()
            },
            GroupError::InvalidRequest,
        ),
        (
            JoinRequest {
                client_id: "x".repeat(ID_BYTES_MAX),
                ..base()
            },
            GroupError::InvalidRequest,
        ),
        (
            JoinRequest {
                protocol_type: "connect".into(),
                ..base()
            },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            JoinRequest {
                protocols: protocols(&["sticky"]),
                ..base()
            },
            GroupError::InconsistentGroupProtocol,
        ),
        (
            JoinRequest {
                member_id: "stranger".into(),
                ..base()
            },
            GroupError::UnknownMemberId,
        ),
    ];
    for (request, refusal) in cases {
        let token = fixture.join(request);
        assert_eq!(fixture.joined(token), Err(refusal));
    }
    assert_eq!(fixture.state(), Some(GroupState::Stable));
}

#[test]
fn the_protocol_that_most_prefer_is_chosen() {
    let mut fixture = Fixture::new();
    for (client, offered) in [
        ("a", ["range", "sticky"]),
        ("b", ["sticky", "range"]),
        ("c", ["sticky", "range"]),
    ] {
        fixture.join(JoinRequest {
            protocols: protocols(&offered),
            ..new_member(client)
        });
    }
    fixture.advance(Duration::from_secs(9));
    for token in 1..=3 {
        assert_eq!(
            fixture
                .joined(ReplyToken(token))
                .unwrap()
                .protocol
                .as_deref(),
            Some("sticky")
        );
    }
}

#[test]
fn a_static_member_restarts_without_a_rebalance() {
    let mut fixture = Fixture::new();
    let first = fixture.join(static_member("node", "1"));
    fixture.advance(Duration::from_secs(6));
    let first = fixture.joined(first).unwrap();
    let sync = fixture.sync(&first, &[("node-1", "all")]);
    assert_eq!(fixture.assignment(sync), Ok(opaque("all")));

    let features = JoinFeatures {
        skip_assignment: true,
        ..JoinFeatures::default()
    };
    let second = fixture.join(JoinRequest {
        features,
        ..static_member("node", "2")
    });
    let second = fixture.joined(second).unwrap();
    assert_eq!(
        (second.generation, second.leader.as_str()),
        (Generation(1), "node-2")
    );
    assert!(second.skip_assignment && second.members.len() == 1);
    let sync = fixture.sync(&second, &[]);
    assert_eq!(
        fixture.assignment(sync),
        Ok(opaque("all")),
        "keeps its assignment"
    );

    let stale = fixture.join(JoinRequest {
        member_id: "node-1".into(),
        ..static_member("node", "3")
    });
    assert_eq!(fixture.joined(stale), Err(GroupError::FencedInstanceId));
    let old_client = fixture.join(static_member("node", "4"));
    let old_client = fixture.joined(old_client).unwrap();
    assert_eq!(
        old_client.leader, "node-2",
        "must not take itself for the leader"
    );
    assert!(!old_client.skip_assignment && old_client.members.is_empty());
    assert_eq!(fixture.reasons.len(), 1, "only the first join rebalanced");
    assert_eq!(fixture.leave(UNKNOWN_MEMBER_ID, Some("node")), Ok(()));
    assert_eq!(fixture.state(), Some(GroupState::Empty));
}

#[test]
fn an_assignment_that_cannot_be_stored_rebalances() {
    let mut fixture = Fixture::new();
    let a = fixture.join(new_member("a"));
    fixture.advance(Duration::from_secs(6));
    let a = fixture.joined(a).unwrap();
    fixture.held = Some(Vec::new());
    let sync = fixture.sync(&a, &[("a-1", "all")]);
    let id = fixture.held.take().unwrap()[0];
    fixture.appended(id, Err(AppendError::NotReplicated));
    assert_eq!(
        fixture.assignment(sync),
        Err(GroupError::CoordinatorNotAvailable)
    );
    assert_eq!(fixture.reasons.last(), Some(&RebalanceReason::NotStored));
    assert_eq!(fixture.heartbeat(&a), Err(GroupError::RebalanceInProgress));
}

#[test]
fn offsets_are_visible_once_durable() {
    let mut fixture = Fixture::new();
    fixture.held = Some(Vec::new());
    let token = fixture.commit(UNKNOWN_MEMBER_ID, Generation::NONE, "note");
    let committed = |fixture: &Fixture| {
        let found = fixture
            .groups
            .committed_offset(GROUP, "payments", PartitionIndex(0));
        found.map(|committed| {
            (
                committed.offset,
                committed.leader_epoch,
                committed.metadata.clone(),
            )
        })
    };
    assert_eq!(committed(&fixture), None);
    let id = fixture.held.take().unwrap()[0];
    fixture.appended(id, Ok(fixture.log_end()));
    assert_eq!(fixture.committed(token), Ok(vec![Ok(())]));
    assert_eq!(
        committed(&fixture),
        Some((Offset(42), LeaderEpoch(3), "note".into()))
    );

    let long = fixture.commit(UNKNOWN_MEMBER_ID, Generation::NONE, &"x".repeat(4097));
    assert_eq!(
        fixture.committed(long),
        Ok(vec![Err(GroupError::OffsetMetadataTooLarge)])
    );
    let stranger = fixture.commit("stranger", Generation(5), "");
    assert_eq!(
        fixture.committed(stranger),
        Err(GroupError::UnknownMemberId)
    );
}

#[test]
fn a_group_is_deleted_only_without_members() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.delete(), Err(GroupError::GroupIdNotFound));
    let (a, b) = fixture.stable_pair();
    let commit = fixture.commit(&a.member_id, a.generation, "");
    assert_eq!(fixture.committed(commit), Ok(vec![Ok(())]));
    assert_eq!(fixture.delete(), Err(GroupError::NonEmptyGroup));
    assert_eq!(fixture.leave(&a.member_id, None), Ok(()));
    assert_eq!(fixture.leave(&b.member_id, None), Ok(()));
    assert_eq!(fixture.delete(), Ok(()));
    assert_eq!(fixture.state(), None);
    let mut replayed = Groups::new(GroupConfig::default());
    replay(&mut replayed, &fixture.log);
    assert_eq!(replayed.list().count(), 0);
}

#[test]
fn offsets_expire_after_the_retention_unless_the_group_has_members() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    let commit = fixture.commit(&a.member_id, a.generation, "");
    assert_eq!(fixture.committed(commit), Ok(vec![Ok(())]));
    let retention = GroupConfig::default().offsets_retention;
    assert_eq!(fixture.expire(retention * 2), Some(GroupState::Stable));
    assert_eq!(fixture.leave(&a.member_id, None), Ok(()));
    assert_eq!(fixture.leave(&b.member_id, None), Ok(()));
    let almost = retention.checked_sub(Duration::from_secs(1)).unwrap();
    assert_eq!(fixture.expire(almost), Some(GroupState::Empty));
    assert_eq!(fixture.expire(retention), None);
}

#[test]
fn consumers_keep_the_offsets_of_their_topics_only() {
    let retention = GroupConfig::default().offsets_retention;
    for (topics, kept) in [(["payments"], 1), (["orders"], 0)] {
        let mut fixture = Fixture::new();
        fixture.stable_consumer(&topics);
        assert_eq!(fixture.expire(retention), Some(GroupState::Stable));
        let left = fixture.groups.committed_offsets(GROUP).count();
        assert_eq!(left, kept, "{topics:?}");
    }
}

#[test]
fn single_offsets_are_deleted_unless_a_member_consumes_the_topic() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.delete_offsets(&["payments"]),
        Err(GroupError::GroupIdNotFound)
    );
    let a = fixture.stable_consumer(&["payments"]);
    assert_eq!(
        fixture.delete_offsets(&["orders", "payments"]),
        Ok(vec![Ok(()), Err(GroupError::SubscribedToTopic)])
    );
    assert_eq!(fixture.groups.committed_offsets(GROUP).count(), 1);
    assert_eq!(fixture.leave(&a.member_id, None), Ok(()));
    assert_eq!(fixture.delete_offsets(&["payments"]), Ok(vec![Ok(())]));
    assert_eq!(fixture.groups.committed_offsets(GROUP).count(), 0);

    let mut replayed = Groups::new(GroupConfig::default());
    replay(&mut replayed, &fixture.log);
    assert_eq!(replayed.committed_offsets(GROUP).count(), 0);
}

#[test]
fn nobody_knows_what_members_of_other_protocols_consume() {
    let mut fixture = Fixture::new();
    let request = JoinRequest {
        protocol_type: "connect".into(),
        ..new_member("a")
    };
    let join = fixture.join(request);
    fixture.advance(Duration::from_secs(6));
    fixture.joined(join).unwrap();
    assert_eq!(
        fixture.delete_offsets(&["payments"]),
        Err(GroupError::NonEmptyGroup)
    );
}

#[test]
fn offsets_of_a_deleted_topic_are_forgotten() {
    let mut fixture = Fixture::new();
    let commit = fixture.commit(UNKNOWN_MEMBER_ID, Generation::NONE, "");
    assert_eq!(fixture.committed(commit), Ok(vec![Ok(())]));
    let mut out = Vec::new();
    fixture
        .groups
        .handle_topic_deleted(fixture.now(), "payments", &mut out);
    fixture.perform(out);
    assert_eq!(fixture.groups.committed_offsets(GROUP).count(), 0);
}

#[test]
fn a_new_coordinator_goes_on_where_the_old_one_stopped() {
    let mut fixture = Fixture::new();
    let (a, b) = fixture.stable_pair();
    fixture.groups = Groups::new(GroupConfig::default());
    let log = core::mem::take(&mut fixture.log);
    replay(&mut fixture.groups, &log);
    fixture.groups.handle_loaded(fixture.now());
    assert_eq!(fixture.heartbeat(&a), Ok(()));
    let sync = fixture.sync(&b, &[]);
    assert_eq!(fixture.assignment(sync), Ok(opaque("part 1")));
    fixture.advance(SESSION);
    assert_eq!(
        fixture.heartbeat(&a),
        Err(GroupError::UnknownMemberId),
        "sessions run again"
    );
}

#[test]
fn who_waits_is_sent_to_the_new_coordinator() {
    let mut fixture = Fixture::new();
    let join = fixture.join(new_member("a"));
    fixture.held = Some(Vec::new());
    let commit = fixture.commit(UNKNOWN_MEMBER_ID, Generation::NONE, "");
    assert_eq!(
        fixture.committed(commit),
        Err(GroupError::UnknownMemberId),
        "the group has a member"
    );
    let groups = core::mem::replace(&mut fixture.groups, Groups::new(GroupConfig::default()));
    let mut out = Vec::new();
    groups.resign(&mut out);
    fixture.perform(out);
    assert_eq!(fixture.joined(join), Err(GroupError::NotCoordinator));
}
