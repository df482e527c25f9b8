//! Random requests, delays, failed appends and restarts never break the group's promises.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::tests::NoTopics;
use super::*;
use crate::{Duration, LeaderEpoch, Offset, PartitionIndex, Time, Timestamp};

const GROUP: &str = "orders";
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, subscription: u8 },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize, partition: i32 },
    CommitAsOutsider { partition: i32 },
    Forget { client: usize },
    Append { succeeds: bool },
    Advance { by_ms: u64 },
    Delete,
    ExpireOffsets,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        6 => (client.clone(), 0..2_u8).prop_map(|(client, subscription)| Step::Join { client, subscription }),
        6 => client.clone().prop_map(|client| Step::Sync { client }),
        2 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        3 => (client.clone(), 0..3).prop_map(|(client, partition)| Step::Commit { client, partition }),
        1 => (0..3).prop_map(|partition| Step::CommitAsOutsider { partition }),
        1 => client.prop_map(|client| Step::Forget { client }),
        8 => prop::bool::weighted(0.9).prop_map(|succeeds| Step::Append { succeeds }),
        6 => (0..8_000_u64).prop_map(|by_ms| Step::Advance { by_ms }),
        1 => Just(Step::Delete),
        1 => Just(Step::ExpireOffsets),
    ]
}

/// What a client believes. Clients 0 and 1 are static members.
#[derive(Clone, Debug, Default)]
struct Client {
    member_id: String,
    generation: Generation,
    leads: Vec<String>,
}

#[derive(Default)]
struct World {
    groups: Option<Groups>,
    time: Time,
    clients: Vec<Client>,
    /// Requests not answered yet, with who sent them: a client may forget itself meanwhile.
    waiting: BTreeMap<ReplyToken, (usize, Client)>,
    answered: BTreeSet<ReplyToken>,
    appends: VecDeque<(AppendId, Arc<[GroupRecord]>)>,
    log: Vec<GroupRecord>,
    generation: Generation,
    /// Who was given what in which life of the group and generation.
    assigned: BTreeMap<(usize, Generation, String), Opaque>,
    lives: usize,
    next: u64,
}

impl World {
    fn new() -> Self {
        let config = GroupConfig {
            group_size_max: CLIENTS,
            ..GroupConfig::default()
        };
        Self {
            groups: Some(Groups::new(config)),
            clients: vec![Client::default(); CLIENTS],
            ..Self::default()
        }
    }

    fn now(&self) -> Now {
        Now {
            time: self.time,
            timestamp: Timestamp(i64::try_from(self.time.0).unwrap()),
        }
    }

    fn groups(&mut self) -> &mut Groups {
        self.groups.as_mut().unwrap()
    }

    fn send(&mut self, client: usize) -> ReplyToken {
        self.next += 1;
        let token = ReplyToken(self.next);
        let sender = (client, self.clients[client].clone());
        self.waiting.insert(token, sender);
        token
    }

    fn instance_id(client: usize) -> Option<String> {
        (client < 2).then(|| ["static-0", "static-1"][client].into())
    }

    fn run(&mut self, step: Step) {
        let now = self.now();
        let mut out = Vec::new();
        match step {
            Step::Join {
                client,
                subscription,
            } => {
                let token = self.send(client);
                let request = self.join_request(client, subscription);
                self.groups()
                    .handle_join(now, request, &NoTopics, token, &mut out);
            }
            Step::Sync { client } => {
                let token = self.send(client);
                let request = self.sync_request(client);
                self.groups().handle_sync(now, request, token, &mut out);
            }
            Step::Heartbeat { client } => {
                let Client {
                    generation,
                    member_id,
                    ..
                } = self.clients[client].clone();
                let request = HeartbeatRequest {
                    group: GROUP.into(),
                    generation,
                    member_id,
                    instance_id: None,
                };
                // Whatever the answer, the invariants hold.
                let _ = self.groups().handle_heartbeat(now, &request);
            }
            Step::Leave { client } => {
                let member_id = self.clients[client].member_id.clone();
                let leaving = LeavingMember {
                    member_id,
                    instance_id: None,
                    reason: None,
                };
                let request = LeaveRequest {
                    group: GROUP.into(),
                    members: vec![leaving],
                };
                let _ = self.groups().handle_leave(now, request, &mut out);
            }
            Step::Commit { client, partition } => {
                let Client {
                    generation,
                    member_id,
                    ..
                } = self.clients[client].clone();
                self.commit(client, (member_id, generation), partition, &mut out);
            }
            Step::CommitAsOutsider { partition } => {
                self.commit(0, (String::new(), Generation::NONE), partition, &mut out);
            }
            Step::Forget { client } => self.clients[client] = Client::default(),
            Step::Append { succeeds } => self.complete_append(succeeds, &mut out),
            Step::Advance { by_ms } => return self.advance(Duration::from_millis(by_ms)),
            Step::Delete => {
                let token = self.send(0);
                self.groups().handle_delete(now, GROUP, token, &mut out);
            }
            Step::ExpireOffsets => self.groups().expire_offsets(now, &mut out),
        }
        self.perform(out);
    }

    fn join_request(&mut self, client: usize, subscription: u8) -> JoinRequest {
        self.next += 1;
        JoinRequest {
            group: GROUP.into(),
            member_id: self.clients[client].member_id.clone(),
            instance_id: Self::instance_id(client),
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: Duration::from_secs(10),
            rebalance_timeout: Duration::from_secs(20),
            protocol_type: "consumer".into(),
            protocols: vec![Protocol {
                name: "range".into(),
                metadata: Arc::new([subscription]),
            }],
            reason: None,
            features: JoinFeatures {
                member_id_required: client == 3,
                skip_assignment: client == 0,
            },
            member_id_suffix: self.next.to_string(),
        }
    }

    fn sync_request(&mut self, client: usize) -> SyncRequest {
        self.next += 1;
        let Client {
            generation,
            member_id,
            leads,
        } = self.clients[client].clone();
        let assignments = leads
            .into_iter()
            .enumerate()
            .map(|(i, id)| {
                (
                    id,
                    Opaque::from([self.next.to_le_bytes(), i.to_le_bytes()].concat()),
                )
            })
            .collect();
        SyncRequest {
            group: GROUP.into(),
            generation,
            member_id,
            instance_id: None,
            protocol_type: None,
            protocol: None,
            assignments,
        }
    }

    fn commit(
        &mut self,
        client: usize,
        by: (String, Generation),
        partition: i32,
        out: &mut Vec<Effect>,
    ) {
        let token = self.send(client);
        let offset = OffsetToCommit {
            topic: "payments".into(),
            partition: PartitionIndex(partition),
            offset: Offset(i64::try_from(self.next).unwrap()),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
            expire_timestamp: None,
        };
        let (member_id, generation) = by;
        let request = CommitRequest {
            group: GROUP.into(),
            member_id,
            instance_id: None,
            generation,
            offsets: vec![offset],
        };
        let now = self.now();
        self.groups().handle_commit(now, request, token, out);
    }

    fn complete_append(&mut self, succeeds: bool, out: &mut Vec<Effect>) {
        let Some((id, records)) = self.appends.pop_front() else {
            return;
        };
        let now = self.now();
        if succeeds {
            self.log.extend(records.iter().cloned());
        }
        let result = if succeeds {
            Ok(Offset(self.log.len() as i64))
        } else {
            Err(AppendError::NotReplicated)
        };
        self.groups().handle_appended(now, id, result, out);
    }

    fn advance(&mut self, by: Duration) {
        let end = self.time.plus(by);
        while let Some(at) = self.groups().next_deadline().filter(|at| *at <= end) {
            self.time = self.time.max(at);
            let now = self.now();
            let mut out = Vec::new();
            self.groups().handle_tick(now, &mut out);
            self.perform(out);
        }
        self.time = end;
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => {
                    assert!(self.answered.insert(token), "answered twice");
                    let (client, sender) = self
                        .waiting
                        .remove(&token)
                        .expect("only requests are answered");
                    self.receive(client, sender, response);
                }
                Effect::Append { id, records } => self.appends.push_back((id, records)),
                Effect::Rebalance { generation, .. } => {
                    assert!(generation >= self.generation, "generations never fall");
                    self.generation = generation;
                }
            }
        }
    }

    fn receive(&mut self, client: usize, sender: Client, response: Response) {
        match response {
            Response::Join(Ok(joined)) => {
                let leads = joined
                    .members
                    .iter()
                    .map(|member| member.member_id.clone())
                    .collect();
                let Joined {
                    member_id,
                    generation,
                    ..
                } = joined;
                self.clients[client] = Client {
                    member_id,
                    generation,
                    leads,
                };
            }
            Response::Join(Err(GroupError::MemberIdRequired { member_id })) => {
                self.clients[client] = Client {
                    member_id,
                    ..Client::default()
                };
            }
            Response::Join(Err(_)) => self.clients[client] = Client::default(),
            Response::Sync(Ok(synced)) if !synced.assignment.is_empty() => {
                self.check_assignment(sender, synced.assignment);
            }
            _ => {}
        }
    }

    /// One owner of each assignment, one assignment of each owner.
    fn check_assignment(&mut self, owner: Client, assignment: Opaque) {
        let Some(description) = self.groups().describe(GROUP) else {
            return;
        };
        let owners = description
            .members
            .iter()
            .filter(|member| member.assignment == assignment);
        assert!(owners.count() <= 1, "an assignment has one owner");
        let key = (self.lives, owner.generation, owner.member_id);
        let first = self
            .assigned
            .entry(key)
            .or_insert_with(|| assignment.clone());
        assert_eq!(
            *first, assignment,
            "the assignment of a generation does not change"
        );
    }

    /// A group of the same name starts over once the old one is gone.
    fn notice_end_of_group(&mut self) {
        if self.groups().describe(GROUP).is_none() {
            self.generation = Generation(0);
            self.lives += 1;
        }
    }

    /// Lets everything end by itself: appends complete, time-outs run.
    fn settle(&mut self) {
        for _ in 0..20 {
            while !self.appends.is_empty() {
                let mut out = Vec::new();
                self.complete_append(true, &mut out);
                self.perform(out);
            }
            self.advance(Duration::from_secs(100));
        }
    }
}

fn contents(groups: &Groups) -> Vec<(String, PartitionIndex, CommittedOffset)> {
    let committed = groups.committed_offsets(GROUP);
    committed
        .map(|(topic, partition, committed)| (topic.into(), partition, committed.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn groups_keep_their_promises(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.notice_end_of_group();
            if !world.appends.is_empty() {
                continue;
            }
            let mut replayed = Groups::new(GroupConfig::default());
            let at = (0..).map(Offset);
            at.zip(&world.log).for_each(|(at, record)| replayed.apply(record, at));
            prop_assert_eq!(contents(world.groups()), contents(&replayed));
            let live = world.groups().describe(GROUP).filter(|group| group.state == GroupState::Stable);
            if let Some(live) = live {
                prop_assert_eq!(Some(live), replayed.describe(GROUP));
            }
        }
        world.settle();
        prop_assert!(world.waiting.is_empty(), "unanswered: {:?}", world.waiting);
    }
}
