//! Members that join, leave, fall silent, change their minds and lose answers.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::record::{GroupEpoch, Partitions};
use super::{ConsumerHeartbeatRequest, Topics};
use crate::group::effect::{AppendId, Effect, ReplyToken, Response};
use crate::group::error::{AppendError, GroupError};
use crate::group::membership::Group;
use crate::group::{GroupConfig, GroupRecord, Groups, Now};
use crate::{Duration, Offset, PartitionIndex, Time, Timestamp, TopicId, TopicPartition};

const GROUP: &str = "orders";
const MEMBERS: usize = 5;

/// Topics `t0`, `t1` … with so many partitions.
#[derive(Clone, Debug)]
struct TestTopics {
    version: u64,
    counts: Vec<u32>,
}

impl Topics for TestTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn find(&self, name: &str) -> Option<(TopicId, u32)> {
        let at: usize = name.strip_prefix('t')?.parse().ok()?;
        let count = *self.counts.get(at)?;
        Some((TopicId([at as u8 + 1; 16]), count))
    }

    /// Knows one regular expression, that for all topics.
    fn matching(&self, regex: &str) -> Vec<String> {
        assert_eq!(regex, "t.*");
        (0..self.counts.len())
            .map(|at| alloc::format!("t{at}"))
            .collect()
    }
}

#[derive(Clone, Debug)]
enum Subscription {
    Names(BTreeSet<usize>),
    All,
}

#[derive(Clone, Debug)]
enum Step {
    /// The member sends a heartbeat; whether its answer is lost.
    Beat(usize, bool),
    Subscribe(usize, Subscription),
    Leave(usize),
    /// The member's process ends without a word, and starts again.
    Die(usize),
    Pass(u64),
    /// A topic gets one more partition.
    Grow(usize),
    /// Appends fail from now on, or work again.
    FailAppends(bool),
    /// Appends wait from now on, or are carried out at once again.
    HoldAppends(bool),
    /// The oldest append that waits is carried out.
    EndAppend,
    /// Another coordinator takes over with what the log has.
    FailOver,
}

/// A client as the protocol has it.
#[derive(Debug)]
struct Client {
    id: String,
    incarnation: u32,
    epoch: GroupEpoch,
    owned: Partitions,
    subscription: Subscription,
    /// Says everything by its next heartbeat: something is new, or an answer did not come.
    is_unsure: bool,
    /// Its heartbeat waits for an answer.
    waits: bool,
}

/// Who gets an answer.
#[derive(Debug)]
struct Asked {
    at: usize,
    incarnation: u32,
    is_lost: bool,
}

struct World {
    groups: Groups,
    topics: TestTopics,
    now: u64,
    log: Vec<GroupRecord>,
    fails: bool,
    holds: bool,
    held: VecDeque<(AppendId, Arc<[GroupRecord]>)>,
    next_token: u64,
    asked: BTreeMap<ReplyToken, Asked>,
    clients: Vec<Client>,
    epoch_max: GroupEpoch,
}

impl World {
    fn new() -> Self {
        let client = |at: usize| Client {
            id: alloc::format!("m{at}"),
            incarnation: 0,
            epoch: GroupEpoch::JOIN,
            owned: Partitions::new(),
            subscription: Subscription::Names(BTreeSet::from([at % 2])),
            is_unsure: true,
            waits: false,
        };
        Self {
            groups: Groups::new(GroupConfig::default()),
            topics: TestTopics {
                version: 1,
                counts: alloc::vec![3, 4],
            },
            now: 0,
            log: Vec::new(),
            fails: false,
            holds: false,
            held: VecDeque::new(),
            next_token: 0,
            asked: BTreeMap::new(),
            clients: (0..MEMBERS).map(client).collect(),
            epoch_max: GroupEpoch(0),
        }
    }

    fn epoch(&self) -> GroupEpoch {
        let group = self.groups.groups.get(GROUP);
        let consumer = group.and_then(|group| group.consumer.as_ref());
        consumer.map_or(GroupEpoch(0), |consumer| consumer.epoch)
    }

    fn now(&self) -> Now {
        Now {
            time: Time(0).plus(Duration::from_millis(self.now)),
            timestamp: Timestamp(self.now as i64),
        }
    }

    /// Carries effects out until nothing is left to do.
    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Reply { token, response } => self.answer(token, response),
                Effect::Append { id, records } => self.held.push_back((id, records)),
                Effect::Rebalance { .. } => {}
            }
        }
        while !self.holds && self.end_append() {}
    }

    /// Whether there was one.
    fn end_append(&mut self) -> bool {
        let Some((id, records)) = self.held.pop_front() else {
            return false;
        };
        let result = match self.fails {
            true => Err(AppendError::NotReplicated),
            false => Ok(Offset(self.log.len() as i64)),
        };
        if result.is_ok() {
            self.log.extend(records.iter().cloned());
        }
        let (now, mut effects) = (self.now(), Vec::new());
        self.groups.handle_appended(now, id, result, &mut effects);
        self.perform(effects);
        true
    }

    fn end_appends(&mut self) {
        while self.end_append() {}
    }

    fn request(&self, at: usize) -> ConsumerHeartbeatRequest {
        let client = &self.clients[at];
        let joins = client.epoch == GroupEpoch::JOIN;
        let is_full = joins || client.is_unsure;
        let (topic_names, topic_regex) = match &client.subscription {
            Subscription::Names(names) => {
                let names = names.iter().map(|at| alloc::format!("t{at}")).collect();
                (Some(names), Some(String::new()))
            }
            Subscription::All => (Some(Vec::new()), Some("t.*".to_string())),
        };
        ConsumerHeartbeatRequest {
            group: GROUP.into(),
            member_id: client.id.clone(),
            epoch: client.epoch,
            instance_id: None,
            rack_id: None,
            rebalance_timeout: is_full.then(|| Duration::from_secs(60)),
            topic_names: topic_names.filter(|_| is_full),
            topic_regex: topic_regex.filter(|_| is_full),
            server_assignor: None,
            owned: Some(client.owned.clone()),
            client_id: "c".to_string(),
            client_host: "/h".to_string(),
        }
    }

    fn send(&mut self, request: &ConsumerHeartbeatRequest, asked: Asked) {
        let token = ReplyToken(self.next_token);
        self.next_token += 1;
        self.asked.insert(token, asked);
        let (now, topics, mut effects) = (self.now(), self.topics.clone(), Vec::new());
        self.groups
            .handle_consumer_heartbeat(now, request, &topics, token, &mut effects);
        self.perform(effects);
    }

    fn beat(&mut self, at: usize, is_lost: bool) {
        let client = &mut self.clients[at];
        if client.waits {
            return;
        }
        client.waits = true;
        let incarnation = client.incarnation;
        let asked = Asked {
            at,
            incarnation,
            is_lost,
        };
        self.send(&self.request(at), asked);
    }

    fn answer(&mut self, token: ReplyToken, response: Response) {
        let asked = self.asked.remove(&token).expect("answered once");
        let Response::ConsumerHeartbeat(answer) = response else {
            panic!("{response:?}");
        };
        let (epoch, client) = (self.epoch(), &mut self.clients[asked.at]);
        if client.incarnation != asked.incarnation {
            return;
        }
        client.waits = false;
        match answer {
            _ if asked.is_lost => client.is_unsure = true,
            Ok(heartbeat) => {
                client.is_unsure = false;
                client.epoch = heartbeat.epoch;
                if let Some(assignment) = heartbeat.assignment {
                    client.owned = assignment;
                }
                assert!(heartbeat.epoch <= epoch);
            }
            Err(GroupError::UnknownMemberId | GroupError::FencedMemberEpoch) => {
                client.epoch = GroupEpoch::JOIN;
                client.owned.clear();
            }
            Err(GroupError::CoordinatorNotAvailable) => client.is_unsure = true,
            Err(error) => panic!("{error}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Beat(at, is_lost) => self.beat(at % MEMBERS, *is_lost),
            Step::Subscribe(at, subscription) => {
                let client = &mut self.clients[at % MEMBERS];
                if !client.waits {
                    client.subscription = subscription.clone();
                    client.is_unsure = true;
                }
            }
            Step::Leave(at) => self.leave(at % MEMBERS),
            Step::Die(at) => self.restart(at % MEMBERS),
            Step::Pass(ms) => self.pass(*ms),
            Step::Grow(at) => {
                let at = at % self.topics.counts.len();
                self.topics.counts[at] += 1;
                self.topics.version += 1;
            }
            Step::FailAppends(fails) => self.fails = *fails,
            Step::HoldAppends(holds) => {
                self.holds = *holds;
                self.perform(Vec::new());
            }
            Step::EndAppend => {
                self.end_append();
            }
            Step::FailOver => self.fail_over(),
        }
    }

    fn leave(&mut self, at: usize) {
        let mut request = self.request(at);
        if request.epoch > GroupEpoch::JOIN {
            request.epoch = GroupEpoch::LEAVE;
            let incarnation = self.clients[at].incarnation;
            self.restart(at);
            let asked = Asked {
                at,
                incarnation,
                is_lost: true,
            };
            self.send(&request, asked);
        }
    }

    fn restart(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.waits = false;
        client.incarnation += 1;
        client.id = alloc::format!("m{at}-{}", client.incarnation);
        client.epoch = GroupEpoch::JOIN;
        client.owned.clear();
        client.is_unsure = true;
    }

    /// Appends end much earlier than sessions.
    fn pass(&mut self, ms: u64) {
        self.end_appends();
        self.now += ms;
        let (now, mut effects) = (self.now(), Vec::new());
        self.groups.handle_tick(now, &mut effects);
        self.perform(effects);
        // Who is not heard from any more knows it from its own clock.
        for client in &mut self.clients {
            if !is_member(&self.groups, &client.id) {
                client.epoch = GroupEpoch::JOIN;
                client.owned.clear();
            }
        }
    }

    fn fail_over(&mut self) {
        let mut groups = Groups::new(GroupConfig::default());
        let at = (0..).map(Offset);
        at.zip(&self.log)
            .for_each(|(at, record)| groups.apply(record, at));
        groups.handle_loaded(self.now());
        self.groups = groups;
        self.epoch_max = GroupEpoch(0);
        self.fails = false;
        self.held.clear();
        self.asked.clear();
        for client in &mut self.clients {
            client.is_unsure |= client.waits;
            client.waits = false;
        }
        // Members that the log does not know find out by their next heartbeat.
        for at in 0..MEMBERS {
            self.beat(at, false);
        }
    }

    fn check(&mut self) {
        let mut owners = BTreeMap::new();
        for client in &self.clients {
            for partition in &client.owned {
                let other = owners.insert(*partition, &client.id);
                assert_eq!(other, None, "{partition} has two owners: {} and", client.id);
            }
        }
        let epoch = self.epoch();
        assert!(
            epoch >= self.epoch_max,
            "{epoch:?} after {:?}",
            self.epoch_max
        );
        self.epoch_max = epoch;
        let bytes = self.groups.groups.values().map(Group::memory_bytes);
        assert_eq!(self.groups.member_bytes, bytes.sum::<usize>());
    }

    /// Once nothing changes any more, every partition that is wanted has an owner.
    fn check_converged(&mut self) {
        (self.fails, self.holds) = (false, false);
        self.pass(100_000);
        for _ in 0..8 {
            (0..MEMBERS).for_each(|at| self.beat(at, false));
            self.check();
        }
        let mut wanted = Partitions::new();
        for client in &self.clients {
            let topics = match &client.subscription {
                Subscription::Names(names) => names.clone(),
                Subscription::All => (0..self.topics.counts.len()).collect(),
            };
            for at in topics {
                let (topic, count) = self.topics.find(&alloc::format!("t{at}")).unwrap();
                wanted.extend((0..count).map(|partition| TopicPartition {
                    topic,
                    partition: PartitionIndex(partition as i32),
                }));
            }
        }
        let owned = self
            .clients
            .iter()
            .flat_map(|client| client.owned.iter().copied());
        assert_eq!(owned.collect::<Partitions>(), wanted);
        let description = self.groups.describe_consumer_group(GROUP).unwrap();
        assert_eq!(description.state.to_string(), "Stable");

        let mut replayed = Groups::new(GroupConfig::default());
        let at = (0..).map(Offset);
        at.zip(&self.log)
            .for_each(|(at, record)| replayed.apply(record, at));
        replayed.handle_loaded(self.now());
        assert_eq!(replayed.describe_consumer_group(GROUP), Some(description));
    }
}

fn is_member(groups: &Groups, member_id: &str) -> bool {
    let consumer = groups
        .groups
        .get(GROUP)
        .and_then(|group| group.consumer.as_ref());
    consumer.is_some_and(|consumer| consumer.has_member(member_id))
}

fn step() -> impl Strategy<Value = Step> {
    let member = 0..MEMBERS;
    let subscription = prop_oneof![
        prop::collection::btree_set(0..2usize, 0..3).prop_map(Subscription::Names),
        Just(Subscription::All),
    ];
    prop_oneof![
        20 => (member.clone(), prop::bool::weighted(0.1)).prop_map(|(at, lost)| Step::Beat(at, lost)),
        2 => (member.clone(), subscription).prop_map(|(at, to)| Step::Subscribe(at, to)),
        1 => member.clone().prop_map(Step::Leave),
        1 => member.prop_map(Step::Die),
        2 => (0..30_000u64).prop_map(Step::Pass),
        1 => (0..2usize).prop_map(Step::Grow),
        1 => any::<bool>().prop_map(Step::FailAppends),
        1 => any::<bool>().prop_map(Step::HoldAppends),
        3 => Just(Step::EndAppend),
    ]
}

proptest! {
    #[test]
    fn a_partition_has_one_owner_and_members_come_to_their_targets(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.check_converged();
    }

    #[test]
    fn another_coordinator_goes_on_from_the_log(
        runs in prop::collection::vec(prop::collection::vec(step(), 1..30), 1..5),
    ) {
        let mut world = World::new();
        for steps in &runs {
            for step in steps {
                world.step(step);
                world.check();
            }
            world.step(&Step::FailOver);
            world.check();
        }
        world.check_converged();
    }
}
