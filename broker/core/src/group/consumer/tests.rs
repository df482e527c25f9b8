//! Single steps of the consumer protocol, and groups on their way between the protocols.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use super::record::{GroupEpoch, Partitions};
use super::{ConsumerHeartbeat, ConsumerHeartbeatRequest, Topics};
use crate::group::consumer_protocol::tests::subscription;
use crate::group::consumer_protocol::{read_assignment, write_assignment};
use crate::group::effect::{AppendId, Effect, Joined, ReplyToken, Response};
use crate::group::error::{AppendError, GroupError};
use crate::group::{
    CommitRequest, Generation, GroupConfig, GroupRecord, Groups, HeartbeatRequest, ID_BYTES_MAX,
    JoinFeatures, JoinRequest, LeaveRequest, LeavingMember, MEMBERS_BYTES_MAX, Now, OffsetToCommit,
    Opaque, Protocol, REGEXES_MAX, SyncRequest,
};
use crate::{
    Duration, LeaderEpoch, Offset, PartitionIndex, Time, Timestamp, TopicId, TopicPartition,
};

const GROUP: &str = "orders";
const TOPIC: TopicId = TopicId([7; 16]);

/// One topic, `t`, of four partitions.
struct OneTopic;

impl Topics for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        (name == "t").then_some((TOPIC, 4))
    }

    fn matching(&self, _regex: &str) -> Vec<String> {
        ["t".to_string()].into()
    }
}

/// A coordinator whose appends are committed at once, or when the test says so.
struct Fixture {
    groups: Groups,
    now_ms: u64,
    next_token: u64,
    held: Option<VecDeque<AppendId>>,
    /// Answers that did not come at once.
    late: Vec<Response>,
    /// How often targets were made.
    targets: usize,
}

impl Fixture {
    fn new() -> Self {
        Self::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Self {
        Self {
            groups: Groups::new(config),
            now_ms: 0,
            next_token: 0,
            held: None,
            late: Vec::new(),
            targets: 0,
        }
    }

    fn now(&self) -> Now {
        Now {
            time: Time(0).plus(Duration::from_millis(self.now_ms)),
            timestamp: Timestamp(self.now_ms as i64),
        }
    }

    /// Carries a request out; its answer, if it came at once.
    fn ask(
        &mut self,
        request: impl FnOnce(&mut Groups, Now, ReplyToken, &mut Vec<Effect>),
    ) -> Option<Response> {
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        let (now, mut effects) = (self.now(), Vec::new());
        request(&mut self.groups, now, token, &mut effects);
        self.perform(effects, token)
    }

    fn perform(&mut self, mut effects: Vec<Effect>, token: ReplyToken) -> Option<Response> {
        let (now, mut answer) = (self.now(), None);
        while !effects.is_empty() {
            for effect in core::mem::take(&mut effects) {
                match effect {
                    Effect::Reply {
                        token: to,
                        response,
                    } if to == token => answer = Some(response),
                    Effect::Reply { response, .. } => self.late.push(response),
                    Effect::Append { id, records } => {
                        let is_target = |record: &&_| {
                            matches!(record, GroupRecord::ConsumerTargetMetadata { .. })
                        };
                        self.targets += records.iter().filter(is_target).count();
                        match &mut self.held {
                            Some(held) => held.push_back(id),
                            None => {
                                let at = Ok(Offset(0));
                                self.groups.handle_appended(now, id, at, &mut effects);
                            }
                        }
                    }
                    Effect::Rebalance { .. } => {}
                }
            }
        }
        answer
    }

    /// Ends the oldest append that is held.
    fn end_append(&mut self, result: Result<(), AppendError>) {
        let id = self.held.as_mut().and_then(VecDeque::pop_front).unwrap();
        let (now, mut effects) = (self.now(), Vec::new());
        let at = result.map(|()| Offset(0));
        self.groups.handle_appended(now, id, at, &mut effects);
        self.perform(effects, ReplyToken(u64::MAX));
    }

    fn tick(&mut self) {
        let (now, mut effects) = (self.now(), Vec::new());
        self.groups.handle_tick(now, &mut effects);
        self.perform(effects, ReplyToken(u64::MAX));
    }

    fn beat(
        &mut self,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<ConsumerHeartbeat, GroupError> {
        match self.send(request) {
            Some(Response::ConsumerHeartbeat(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, request: &ConsumerHeartbeatRequest) -> Option<Response> {
        self.ask(|groups, now, token, out| {
            groups.handle_consumer_heartbeat(now, request, &OneTopic, token, out);
        })
    }

    fn join(&mut self, member_id: &str, owned: &[i32]) -> Option<Result<Joined, GroupError>> {
        self.join_by(join_request(member_id, owned))
    }

    fn join_by(&mut self, request: JoinRequest) -> Option<Result<Joined, GroupError>> {
        let answer = self.ask(|groups, now, token, out| {
            groups.handle_join(now, request, &OneTopic, token, out);
        });
        answer.map(|answer| match answer {
            Response::Join(result) => result,
            other => panic!("{other:?}"),
        })
    }

    /// The partitions that a classic member is given.
    fn sync(
        &mut self,
        member_id: &str,
        generation: Generation,
        assignments: &[(&str, &[i32])],
    ) -> Result<Vec<i32>, GroupError> {
        let assignments = assignments.iter().map(|(member_id, indexes)| {
            let indexes: Vec<_> = indexes.iter().copied().map(PartitionIndex).collect();
            (member_id.to_string(), write_assignment(&[("t", indexes)]))
        });
        let request = SyncRequest {
            group: GROUP.into(),
            generation,
            member_id: member_id.into(),
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        let answer =
            self.ask(|groups, now, token, out| groups.handle_sync(now, request, token, out));
        match answer {
            Some(Response::Sync(result)) => result.map(|synced| {
                let named = read_assignment(&synced.assignment).unwrap_or_default();
                let indexes = named.iter().flat_map(|(_, indexes)| indexes);
                indexes.map(|index| index.0).collect()
            }),
            other => panic!("{other:?}"),
        }
    }

    fn classic_beat(&mut self, member_id: &str, generation: Generation) -> Result<(), GroupError> {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            generation,
            member_id: member_id.into(),
            instance_id: None,
        };
        let now = self.now();
        self.groups.handle_heartbeat(now, &request)
    }

    fn commit(&mut self, member_id: &str, epoch: i32) -> Result<(), GroupError> {
        let request = CommitRequest {
            group: GROUP.into(),
            member_id: member_id.into(),
            instance_id: None,
            generation: Generation(epoch),
            offsets: [OffsetToCommit {
                topic: "t".into(),
                partition: PartitionIndex(0),
                offset: Offset(1),
                leader_epoch: LeaderEpoch(0),
                metadata: String::new(),
                expire_timestamp: None,
            }]
            .into(),
        };
        let answer =
            self.ask(|groups, now, token, out| groups.handle_commit(now, request, token, out));
        match answer {
            Some(Response::CommitOffsets(result)) => result.map(drop),
            other => panic!("{other:?}"),
        }
    }

    /// A classic group of one member, that has all partitions.
    fn with_classic_member() -> (Self, String, Generation) {
        Self::with_classic_member_and(GroupConfig::default())
    }

    fn with_classic_member_and(config: GroupConfig) -> (Self, String, Generation) {
        let mut fixture = Self::with(config);
        assert_eq!(fixture.join("", &[]), None);
        fixture.now_ms += 3_000;
        fixture.tick();
        let description = fixture.groups.describe(GROUP).unwrap();
        let member_id = description.members[0].member_id.clone();
        let all: &[i32] = &[0, 1, 2, 3];
        let generation = Generation(1);
        assert_eq!(
            fixture
                .sync(&member_id, generation, &[(&member_id, all)])
                .unwrap(),
            all
        );
        (fixture, member_id, generation)
    }
}

fn join_request(member_id: &str, owned: &[i32]) -> JoinRequest {
    let mut metadata = subscription(&["t"]);
    metadata.truncate(metadata.len() - 4);
    let owned: Vec<_> = owned.iter().copied().map(PartitionIndex).collect();
    let owned = write_assignment(&[("t", owned)]);
    metadata.extend(&owned[2..owned.len() - 4]);
    JoinRequest {
        group: GROUP.into(),
        member_id: member_id.into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/h".into(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(60),
        protocol_type: "consumer".into(),
        protocols: [Protocol {
            name: "cooperative-sticky".into(),
            metadata: Opaque::from(metadata),
        }]
        .into(),
        reason: None,
        features: JoinFeatures::default(),
        member_id_suffix: "1".into(),
    }
}

fn partitions(indexes: &[i32]) -> Partitions {
    let of = |index: &i32| TopicPartition {
        topic: TOPIC,
        partition: PartitionIndex(*index),
    };
    indexes.iter().map(of).collect()
}

fn heartbeat(member_id: &str, epoch: i32, owned: &[i32]) -> ConsumerHeartbeatRequest {
    let joins = epoch == 0;
    ConsumerHeartbeatRequest {
        group: GROUP.into(),
        member_id: member_id.into(),
        epoch: GroupEpoch(epoch),
        instance_id: None,
        rack_id: None,
        rebalance_timeout: joins.then(|| Duration::from_secs(60)),
        topic_names: joins.then(|| ["t".to_string()].into()),
        topic_regex: None,
        server_assignor: None,
        owned: Some(partitions(owned)),
        client_id: "c".into(),
        client_host: "/h".into(),
    }
}

#[test]
fn commits_are_fenced_by_the_members_epoch() {
    let mut fixture = Fixture::new();
    let joined = fixture.beat(&heartbeat("a", 0, &[])).unwrap();
    assert_eq!(joined.assignment, Some(partitions(&[0, 1, 2, 3])));
    let epoch = joined.epoch.0;
    assert_eq!(fixture.commit("a", epoch), Ok(()));
    assert_eq!(
        fixture.commit("a", epoch - 1),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(fixture.commit("b", epoch), Err(GroupError::UnknownMemberId));
    assert_eq!(fixture.commit("", -1), Err(GroupError::UnknownMemberId));
    fixture.beat(&heartbeat("a", -1, &[])).unwrap();
    assert_eq!(fixture.commit("", -1), Ok(()), "nobody is left");
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut fixture = Fixture::new();
    let of_instance = |request: ConsumerHeartbeatRequest| ConsumerHeartbeatRequest {
        instance_id: Some("i".into()),
        ..request
    };
    let joined = fixture.beat(&of_instance(heartbeat("a", 0, &[]))).unwrap();
    let again = fixture.beat(&of_instance(heartbeat("b", 0, &[])));
    assert_eq!(again, Err(GroupError::UnreleasedInstanceId));
    fixture.beat(&of_instance(heartbeat("a", -2, &[]))).unwrap();
    let other = fixture.beat(&heartbeat("c", 0, &[])).unwrap();
    assert_eq!(
        other.assignment,
        Some(Partitions::new()),
        "its partitions are kept for it"
    );
    let back = fixture.beat(&of_instance(heartbeat("b", 0, &[]))).unwrap();
    assert_eq!(back.assignment.unwrap().len(), 2);
    assert!(back.epoch > joined.epoch);
    let former = fixture.beat(&of_instance(heartbeat("a", joined.epoch.0, &[])));
    assert_eq!(former, Err(GroupError::FencedInstanceId));
}

#[test]
fn a_member_that_does_not_give_up_its_partitions_is_taken_out() {
    let mut fixture = Fixture::new();
    let first = fixture.beat(&heartbeat("a", 0, &[])).unwrap();
    let second = fixture.beat(&heartbeat("b", 0, &[])).unwrap();
    let owned = [0, 1, 2, 3];
    for _ in 0..6 {
        fixture
            .beat(&heartbeat("a", first.epoch.0, &owned))
            .unwrap();
        fixture.beat(&heartbeat("b", second.epoch.0, &[])).unwrap();
        fixture.now_ms += 10_000;
        fixture.tick();
    }
    let late = fixture.beat(&heartbeat("a", first.epoch.0, &owned));
    assert_eq!(late, Err(GroupError::UnknownMemberId));
}

#[test]
fn a_group_goes_over_to_the_consumer_protocol_and_back() {
    let (mut fixture, classic, generation) = Fixture::with_classic_member();
    let joined = fixture.beat(&heartbeat("new", 0, &[])).unwrap();
    assert_eq!(
        joined.assignment,
        Some(Partitions::new()),
        "the classic member has all"
    );
    assert_eq!(fixture.groups.describe(GROUP), None);
    assert_eq!(
        fixture.classic_beat(&classic, generation),
        Err(GroupError::RebalanceInProgress)
    );
    // It is asked to give up two, does so, and joins again.
    let joined_classic = fixture.join(&classic, &[0, 1, 2, 3]).unwrap().unwrap();
    let kept = fixture
        .sync(&classic, joined_classic.generation, &[])
        .unwrap();
    assert_eq!(kept.len(), 2);
    let joined_classic = fixture.join(&classic, &kept).unwrap().unwrap();
    let generation = joined_classic.generation;
    assert_eq!(fixture.sync(&classic, generation, &[]).unwrap(), kept);
    assert_eq!(fixture.classic_beat(&classic, generation), Ok(()));
    let taken = fixture
        .beat(&heartbeat("new", joined.epoch.0, &[]))
        .unwrap();
    assert_eq!(taken.assignment.unwrap().len(), 2);
    assert_eq!(fixture.commit(&classic, generation.0), Ok(()));
    assert_eq!(
        fixture.commit(&classic, 1),
        Err(GroupError::IllegalGeneration)
    );

    fixture.beat(&heartbeat("new", -1, &[])).unwrap();
    assert_eq!(fixture.groups.describe_consumer_group(GROUP), None);
    let description = fixture.groups.describe(GROUP).unwrap();
    assert_eq!(description.members.len(), 1);
    assert_eq!(
        fixture.classic_beat(&classic, Generation(joined.epoch.0 + 1)),
        Err(GroupError::RebalanceInProgress)
    );
    let alone = fixture.join(&classic, &kept).unwrap().unwrap();
    assert_eq!(alone.leader, classic);
    let all: &[i32] = &[0, 1, 2, 3];
    let synced = fixture.sync(&classic, alone.generation, &[(&classic, all)]);
    assert_eq!(synced.unwrap(), all);
}

#[test]
fn a_classic_member_leaves_a_consumer_group() {
    let (mut fixture, classic, _) = Fixture::with_classic_member();
    let joined = fixture.beat(&heartbeat("new", 0, &[])).unwrap();
    let leave = LeaveRequest {
        group: GROUP.into(),
        members: [LeavingMember {
            member_id: classic,
            instance_id: None,
            reason: None,
        }]
        .into(),
    };
    fixture.ask(|groups, now, _, out| {
        let left = groups.handle_leave(now, leave, out);
        assert_eq!(left, Ok([Ok(())].into()));
    });
    let alone = fixture
        .beat(&heartbeat("new", joined.epoch.0, &[]))
        .unwrap();
    assert_eq!(alone.assignment, Some(partitions(&[0, 1, 2, 3])));
}

#[test]
fn members_keep_what_they_have_when_a_group_changes_protocols_during_a_rebalance() {
    let (mut fixture, classic, _) = Fixture::with_classic_member();
    let joined = fixture.join(&classic, &[0, 1, 2, 3]).unwrap().unwrap();
    assert_eq!(
        joined.generation,
        Generation(2),
        "without an assignment yet"
    );
    let new = fixture.beat(&heartbeat("new", 0, &[])).unwrap();
    assert_eq!(new.assignment, Some(Partitions::new()));
}

#[test]
fn a_classic_member_that_shares_no_protocol_with_another_is_refused() {
    let (mut fixture, classic, _) = Fixture::with_classic_member();
    fixture.beat(&heartbeat("new", 0, &[])).unwrap();
    let by_range = |member_id: &str| {
        let mut request = join_request(member_id, &[]);
        request.protocols[0].name = "range".into();
        request
    };
    assert_eq!(
        fixture.join_by(by_range("other")).unwrap(),
        Err(GroupError::InconsistentGroupProtocol)
    );
    let changed = fixture.join_by(by_range(&classic)).unwrap();
    assert!(changed.is_ok(), "it is alone");
}

#[test]
fn a_classic_member_that_does_not_join_again_is_taken_out() {
    let (mut fixture, classic, generation) = Fixture::with_classic_member();
    let epoch = fixture.beat(&heartbeat("new", 0, &[])).unwrap().epoch.0;
    for _ in 0..12 {
        let told = fixture.classic_beat(&classic, generation);
        assert_eq!(told, Err(GroupError::RebalanceInProgress));
        fixture.beat(&heartbeat("new", epoch, &[])).unwrap();
        fixture.now_ms += 5_000;
        fixture.tick();
    }
    let told = fixture.classic_beat(&classic, generation);
    assert_eq!(told, Err(GroupError::UnknownMemberId));
    let alone = fixture.beat(&heartbeat("new", epoch, &[])).unwrap();
    assert_eq!(alone.assignment, Some(partitions(&[0, 1, 2, 3])));
}

#[test]
fn the_id_of_a_classic_member_has_room_in_a_record() {
    let mut fixture = Fixture::new();
    fixture.beat(&heartbeat("new", 0, &[])).unwrap();
    let request = JoinRequest {
        client_id: "c".repeat(ID_BYTES_MAX),
        ..join_request("", &[])
    };
    let joined = fixture.join_by(request).unwrap();
    assert_eq!(joined, Err(GroupError::InvalidRequest));
}

#[test]
fn a_full_group_stays_a_classic_one() {
    let config = GroupConfig {
        consumer_group_size_max: 1,
        ..GroupConfig::default()
    };
    let (mut fixture, classic, generation) = Fixture::with_classic_member_and(config);
    let refused = fixture.beat(&heartbeat("new", 0, &[]));
    assert_eq!(refused, Err(GroupError::GroupMaxSizeReached));
    assert_eq!(fixture.classic_beat(&classic, generation), Ok(()));
}

#[test]
fn nobody_joins_a_group_that_is_being_deleted() {
    let mut fixture = Fixture::new();
    let epoch = fixture.beat(&heartbeat("a", 0, &[])).unwrap().epoch;
    fixture.beat(&heartbeat("a", -1, &[])).unwrap();
    fixture.held = Some(VecDeque::new());
    let deleted =
        fixture.ask(|groups, now, token, out| groups.handle_delete(now, GROUP, token, out));
    assert_eq!(deleted, None);
    let unavailable = GroupError::CoordinatorNotAvailable;
    assert_eq!(
        fixture.beat(&heartbeat("b", 0, &[])),
        Err(unavailable.clone())
    );
    assert_eq!(fixture.join("", &[]), Some(Err(unavailable)));
    fixture.end_append(Ok(()));
    assert_eq!(fixture.late, [Response::Delete(Ok(()))]);
    fixture.held = None;
    let joined = fixture.beat(&heartbeat("b", 0, &[])).unwrap();
    assert!(joined.epoch <= epoch, "the group is a new one");
}

#[test]
fn nobody_is_told_what_builds_on_records_that_are_missing() {
    let mut fixture = Fixture::new();
    fixture.held = Some(VecDeque::new());
    assert_eq!(fixture.send(&heartbeat("a", 0, &[])), None);
    assert_eq!(fixture.send(&heartbeat("b", 0, &[])), None);
    fixture.end_append(Err(AppendError::NotReplicated));
    fixture.end_append(Ok(()));
    let unavailable = Response::ConsumerHeartbeat(Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(fixture.late, [unavailable.clone(), unavailable]);
    fixture.held = None;
    let again = fixture.beat(&heartbeat("b", 0, &[])).unwrap();
    assert_eq!(
        again.assignment,
        Some(Partitions::new()),
        "a has all, or will"
    );
}

#[test]
fn strangers_do_not_keep_the_offsets_of_an_empty_group() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let mut fixture = Fixture::new();
    let epoch = fixture.beat(&heartbeat("a", 0, &[])).unwrap().epoch.0;
    fixture.commit("a", epoch).unwrap();
    fixture.beat(&heartbeat("a", -1, &[])).unwrap();
    fixture.now_ms = 6 * DAY_MS;
    let stranger = fixture.beat(&heartbeat("b", epoch, &[]));
    assert_eq!(stranger, Err(GroupError::UnknownMemberId));
    fixture.now_ms = 7 * DAY_MS;
    fixture.ask(|groups, now, _, out| groups.expire_offsets(now, out));
    let partition = PartitionIndex(0);
    assert_eq!(fixture.groups.committed_offset(GROUP, "t", partition), None);
}

#[test]
fn members_stay_when_there_is_no_memory_for_more() {
    let mut fixture = Fixture::new();
    let epoch = fixture.beat(&heartbeat("a", 0, &[])).unwrap().epoch.0;
    fixture.groups.member_bytes += MEMBERS_BYTES_MAX;
    fixture.beat(&heartbeat("a", epoch, &[])).unwrap();
    let unavailable = Err(GroupError::CoordinatorNotAvailable);
    assert_eq!(fixture.beat(&heartbeat("b", 0, &[])), unavailable);
    let mut larger = heartbeat("a", epoch, &[]);
    larger.topic_names = Some(["t".into(), "more".into()].into());
    assert_eq!(fixture.beat(&larger), unavailable);
    fixture.beat(&heartbeat("a", -1, &[])).unwrap();
    assert_eq!(fixture.groups.member_bytes, MEMBERS_BYTES_MAX);
}

#[test]
fn a_group_has_a_bounded_number_of_regular_expressions() {
    let mut fixture = Fixture::new();
    let by_regex = |at: usize, regex: usize| {
        let mut request = heartbeat(&alloc::format!("m{at}"), 0, &[]);
        request.topic_regex = Some(alloc::format!("t{regex}"));
        request
    };
    for at in 0..REGEXES_MAX {
        fixture.beat(&by_regex(at, at)).unwrap();
    }
    let refused = fixture.beat(&by_regex(REGEXES_MAX, REGEXES_MAX));
    assert_eq!(refused, Err(GroupError::TooManyRegexes));
    fixture.beat(&by_regex(REGEXES_MAX, 0)).unwrap();
}

#[test]
fn each_of_a_thousand_members_that_joined_at_once_made_targets_for_all() {
    let mut fixture = Fixture::new();
    let member = |at: i32| alloc::format!("m{at}");
    let epochs: Vec<i32> = (0..1000)
        .map(|at| {
            fixture
                .beat(&heartbeat(&member(at), 0, &[]))
                .unwrap()
                .epoch
                .0
        })
        .collect();
    assert!(fixture.targets < 200, "{}", fixture.targets);
    assert!(epochs.iter().all(|epoch| *epoch > 0));
    fixture.now_ms += 1000;
    let told = fixture.beat(&heartbeat("m0", epochs[0], &[0, 1, 2, 3]));
    let kept = told.unwrap().assignment.unwrap();
    let kept: Vec<i32> = kept.iter().map(|partition| partition.partition.0).collect();
    assert_eq!(kept.len(), 1);
    let given_up = fixture.beat(&heartbeat("m0", epochs[0], &kept)).unwrap();
    assert!(given_up.epoch.0 > epochs[999]);
    let last = fixture.beat(&heartbeat("m999", epochs[999], &[])).unwrap();
    assert_eq!(last.epoch, given_up.epoch);
}
