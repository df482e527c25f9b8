//! Histories in which messages are lost, repeated and late, clients give up and come back as two at a
//! time, and the coordinator crashes: no transaction is torn, no aborted one visible, none hangs.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::partition::{
    Acks, Assignment, LeaderEnds, MarkerVerdict, Producers, Replica, SequenceVerdict,
    SequencedBatch, Settings, VerificationGuard,
};
use crate::{BrokerId, LeaderEpoch, Offset, PartitionEpoch, PartitionIndex, Time, Timestamp};

const PARTITIONS: usize = 3;
const CLIENTS: usize = 2;
const TIMEOUT: Duration = Duration::from_secs(60);
const CONFIG: Config = Config {
    timeout_max: Duration::from_secs(900),
    id_expiration: Duration::from_secs(1_000_000_000),
};

type Tag = u32;

#[derive(Clone, Copy, Debug)]
struct Write {
    client: usize,
    partition: usize,
    producer: Producer,
    tag: Tag,
}

#[derive(Clone, Debug)]
enum Message {
    Init {
        client: usize,
        attempt: u32,
        expected: Option<Producer>,
    },
    Inited {
        client: usize,
        attempt: u32,
        answer: Result<Producer, TransactionError>,
    },
    Write(Write),
    Join(Write, VerificationGuard),
    Joined(Write, VerificationGuard),
    Written(Write),
    Refused(Write),
    End {
        client: usize,
        producer: Producer,
        tag: Tag,
        outcome: TransactionOutcome,
    },
    Ended {
        client: usize,
        tag: Tag,
        answer: Result<Producer, TransactionError>,
    },
    Marker {
        partition: usize,
        marker: EndMarker,
        epoch: MarkerEpoch,
    },
    Marked {
        partition: usize,
        marker: EndMarker,
    },
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    Data(ProducerId, Tag),
    Marker(EndMarker),
}

struct Partition {
    replica: Replica,
    log: Vec<Entry>,
}

#[derive(Debug)]
enum Doing {
    Initializing {
        /// Clients know the answers to requests that they have given up.
        attempt: u32,
        expected: Option<Producer>,
    },
    Writing {
        tag: Tag,
        written: BTreeSet<usize>,
    },
    Ending {
        tag: Tag,
        outcome: TransactionOutcome,
    },
}

struct Client {
    producer: Option<Producer>,
    doing: Doing,
}

struct World {
    log: Vec<TransactionRecord>,
    transactions: Transactions,
    epoch: i32,
    /// Records on their way to the log, with the answers that wait for them.
    storing: Vec<(TransactionRecord, Option<Message>)>,
    /// Partitions that have the marker of the prepared transaction.
    marked: BTreeSet<usize>,
    partitions: Vec<Partition>,
    clients: Vec<Client>,
    network: Vec<Message>,
    now: i64,
    fresh: i64,
    tags: Tag,
    attempts: u32,
    /// Transactions that a client sent a commit for.
    asked: BTreeSet<Tag>,
    committed: BTreeSet<Tag>,
    aborted: BTreeSet<Tag>,
}

fn index(partition: usize) -> TransactionTopicPartition {
    ("t".into(), PartitionIndex(partition as i32))
}

fn leader() -> Partition {
    let settings = Settings {
        min_insync_replicas: 1,
        lag_time_max: TIMEOUT,
        isr_dwell: TIMEOUT,
    };
    let mut replica = Replica::new(BrokerId(0), settings, Offset(0), Producers::default());
    let assignment = Assignment {
        leader: Some(BrokerId(0)),
        leader_epoch: LeaderEpoch(1),
        partition_epoch: PartitionEpoch(1),
        replicas: vec![BrokerId(0)],
        isr: vec![BrokerId(0)],
        elr: Vec::new(),
    };
    let ends = LeaderEnds {
        written: Offset(0),
        own: Offset(0),
    };
    replica.handle_assignment(Time(0), &assignment, ends);
    Partition {
        replica,
        log: Vec::new(),
    }
}

impl Partition {
    fn end(&self) -> Offset {
        Offset(self.log.len() as i64)
    }

    /// What the leader does with a record: the message that follows from it.
    fn write(&mut self, write: Write, guard: Option<VerificationGuard>) -> Message {
        let batch = SequencedBatch {
            producer_id: write.producer.id,
            producer_epoch: write.producer.epoch,
            first_sequence: 0,
            last_sequence: 0,
            transactional: true,
        };
        if guard.is_none()
            && let Some(guard) = self
                .replica
                .begin_verification(batch.producer_id, batch.producer_epoch)
                .unwrap()
        {
            return Message::Join(write, guard);
        }
        let verdict = self.replica.admit(Time(0), Acks::All, Some(&batch));
        match verdict {
            Ok(SequenceVerdict::Append) => {
                let verified = self.replica.check_verified(Time(0), &batch, guard);
                if verified.is_err() {
                    return Message::Refused(write);
                }
                let at = self.end();
                self.log.push(Entry::Data(batch.producer_id, write.tag));
                let appended = Some((&batch, Timestamp(at.0)));
                self.replica
                    .handle_append(Time(0), appended, at, self.end());
                Message::Written(write)
            }
            Ok(SequenceVerdict::Duplicate { .. } | SequenceVerdict::AppendedBefore { .. }) => {
                Message::Written(write)
            }
            Err(_) => Message::Refused(write),
        }
    }

    fn mark(&mut self, marker: &EndMarker, epoch: MarkerEpoch) {
        if self.replica.admit_marker(marker, epoch) == Ok(MarkerVerdict::Append) {
            let at = self.end();
            self.log.push(Entry::Marker(*marker));
            self.replica.record_marker(marker, at, Timestamp(at.0));
            self.replica.handle_append(Time(0), None, at, self.end());
        }
    }

    /// Transactions that a reader of committed records sees.
    fn visible(&self) -> BTreeSet<Tag> {
        let mut visible = BTreeSet::new();
        let mut open: BTreeMap<ProducerId, Vec<Tag>> = BTreeMap::new();
        for entry in &self.log {
            match entry {
                Entry::Data(producer, tag) => open.entry(*producer).or_default().push(*tag),
                Entry::Marker(marker) => {
                    let ended = open.remove(&marker.producer_id).unwrap_or_default();
                    if marker.outcome == TransactionOutcome::Commit {
                        visible.extend(ended);
                    }
                }
            }
        }
        visible
    }
}

impl World {
    fn new() -> Self {
        let client = || Client {
            producer: None,
            doing: Doing::Initializing {
                attempt: 0,
                expected: None,
            },
        };
        Self {
            log: Vec::new(),
            transactions: Transactions::new(CONFIG, CoordinatorEpoch(0)),
            epoch: 0,
            storing: Vec::new(),
            marked: BTreeSet::new(),
            partitions: (0..PARTITIONS).map(|_| leader()).collect(),
            clients: (0..CLIENTS).map(|_| client()).collect(),
            network: Vec::new(),
            now: 0,
            fresh: 0,
            tags: 0,
            attempts: 0,
            asked: BTreeSet::new(),
            committed: BTreeSet::new(),
            aborted: BTreeSet::new(),
        }
    }

    fn send(&mut self, message: Message) {
        self.network.push(message);
    }

    /// Sends, perhaps once more, what the client waits for an answer to.
    fn poke_client(&mut self, client: usize) {
        let Client { producer, doing } = &self.clients[client];
        let messages = match (doing, *producer) {
            (Doing::Initializing { attempt, expected }, _) => vec![Message::Init {
                client,
                attempt: *attempt,
                expected: *expected,
            }],
            (Doing::Writing { tag, written }, Some(producer)) => (0..PARTITIONS)
                .filter(|partition| !written.contains(partition))
                .map(|partition| {
                    Message::Write(Write {
                        client,
                        partition,
                        producer,
                        tag: *tag,
                    })
                })
                .collect(),
            (Doing::Ending { tag, outcome }, Some(producer)) => vec![Message::End {
                client,
                producer,
                tag: *tag,
                outcome: *outcome,
            }],
            (_, None) => unreachable!("a producer comes first"),
        };
        self.network.extend(messages);
    }

    fn begin_transaction(&mut self, client: usize, producer: Producer) {
        self.tags += 1;
        self.clients[client] = Client {
            producer: Some(producer),
            doing: Doing::Writing {
                tag: self.tags,
                written: BTreeSet::new(),
            },
        };
        self.poke_client(client);
    }

    fn initialize(&mut self, client: usize, expected: Option<Producer>) {
        self.attempts += 1;
        self.clients[client].doing = Doing::Initializing {
            attempt: self.attempts,
            expected,
        };
    }

    fn give_up_writing(&mut self, client: usize) {
        if let Doing::Writing { tag, .. } = self.clients[client].doing {
            self.clients[client].doing = Doing::Ending {
                tag,
                outcome: TransactionOutcome::Abort,
            };
        }
    }

    fn store(&mut self, record: TransactionRecord, answer: Option<Message>) {
        self.transactions.begin(&record);
        self.storing.push((record, answer));
    }

    fn stored(&mut self, at: usize) {
        let (record, answer) = self.storing.remove(at);
        self.log.push(record.clone());
        self.transactions.apply(&record);
        self.marked.clear();
        self.network.extend(answer);
        self.poke_coordinator();
    }

    fn poke_coordinator(&mut self) {
        let Some(prepared) = self.transactions.prepared("id") else {
            return;
        };
        let partition = |(_, index): &TransactionTopicPartition| index.0 as usize;
        let missing: Vec<usize> = prepared
            .partitions
            .iter()
            .map(partition)
            .filter(|partition| !self.marked.contains(partition))
            .collect();
        if missing.is_empty() && self.storing.is_empty() {
            let record = self.transactions.complete(Timestamp(self.now), "id");
            self.store(record.unwrap(), None);
        }
        for partition in missing {
            self.send(Message::Marker {
                partition,
                marker: prepared.marker,
                epoch: prepared.marker_epoch,
            });
        }
    }

    fn crash_coordinator(&mut self, draws: u64) {
        for (bit, (record, _)) in self.storing.drain(..).enumerate() {
            if draws >> bit & 1 == 1 {
                self.log.push(record);
            }
        }
        self.epoch += 1;
        self.transactions = Transactions::new(CONFIG, CoordinatorEpoch(self.epoch));
        self.log
            .iter()
            .for_each(|record| self.transactions.apply(record));
        self.marked.clear();
        self.poke_coordinator();
    }

    fn time_out(&mut self) {
        self.now += 61_000;
        for record in self.transactions.timed_out(Timestamp(self.now)) {
            self.store(record, None);
        }
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Init {
                client,
                attempt,
                expected,
            } => self.init(client, attempt, expected),
            Message::Inited {
                client,
                attempt,
                answer,
            } => {
                if matches!(self.clients[client].doing, Doing::Initializing { attempt: mine, .. } if mine == attempt)
                {
                    match answer {
                        Ok(producer) => self.begin_transaction(client, producer),
                        Err(TransactionError::Concurrent) => {}
                        Err(_) => self.initialize(client, None),
                    }
                }
            }
            Message::Write(write) => {
                let reply = self.partitions[write.partition].write(write, None);
                self.send(reply);
            }
            Message::Join(write, guard) => self.join(write, guard),
            Message::Joined(write, guard) => {
                let reply = self.partitions[write.partition].write(write, Some(guard));
                self.send(reply);
            }
            Message::Written(write) => self.written(write),
            Message::Refused(write) => {
                if matches!(self.clients[write.client].doing, Doing::Writing { tag, .. } if tag == write.tag)
                {
                    self.give_up_writing(write.client);
                }
            }
            Message::End {
                client,
                producer,
                tag,
                outcome,
            } => self.end(client, producer, tag, outcome),
            Message::Ended {
                client,
                tag,
                answer,
            } => self.ended(client, tag, answer),
            Message::Marker {
                partition,
                marker,
                epoch,
            } => {
                self.partitions[partition].mark(&marker, epoch);
                self.send(Message::Marked { partition, marker });
            }
            Message::Marked { partition, marker } => {
                let prepared = self.transactions.prepared("id");
                if prepared.is_some_and(|prepared| prepared.marker == marker) {
                    self.marked.insert(partition);
                    if self.storing.is_empty() {
                        self.poke_coordinator();
                    }
                }
            }
        }
    }

    fn init(&mut self, client: usize, attempt: u32, expected: Option<Producer>) {
        self.fresh += 1;
        let request = InitRequest {
            id: "id".into(),
            timeout: TIMEOUT,
            expected,
        };
        let fresh = Some(ProducerId(self.fresh));
        let inited = |answer| Message::Inited {
            client,
            attempt,
            answer,
        };
        match self
            .transactions
            .decide_init(Timestamp(self.now), &request, fresh)
        {
            Ok(InitOutcome::Decided(Decision::Store { record, answer })) => {
                self.store(record, Some(inited(Ok(answer))));
            }
            Ok(InitOutcome::Decided(Decision::Answer(answer))) => self.send(inited(Ok(answer))),
            Ok(InitOutcome::Abort(record)) => {
                self.store(record, Some(inited(Err(TransactionError::Concurrent))));
            }
            Ok(InitOutcome::NeedsProducerId) => unreachable!("one was given"),
            Err(error) => self.send(inited(Err(error))),
        }
    }

    fn join(&mut self, write: Write, guard: VerificationGuard) {
        let partitions = vec![index(write.partition)];
        let now = Timestamp(self.now);
        match self
            .transactions
            .decide_add(now, "id", write.producer, partitions)
        {
            Ok(Decision::Answer(())) => self.send(Message::Joined(write, guard)),
            Ok(Decision::Store { record, .. }) => {
                self.store(record, Some(Message::Joined(write, guard)));
            }
            Err(TransactionError::Concurrent) => {}
            Err(_) => self.send(Message::Refused(write)),
        }
    }

    fn written(&mut self, write: Write) {
        let Doing::Writing { tag, written } = &mut self.clients[write.client].doing else {
            return;
        };
        if *tag != write.tag {
            return;
        }
        written.insert(write.partition);
        if written.len() == PARTITIONS {
            let tag = *tag;
            let outcome = match tag % 4 {
                0 => TransactionOutcome::Abort,
                _ => TransactionOutcome::Commit,
            };
            if outcome == TransactionOutcome::Commit {
                self.asked.insert(tag);
            }
            self.clients[write.client].doing = Doing::Ending { tag, outcome };
            self.poke_client(write.client);
        }
    }

    fn end(&mut self, client: usize, producer: Producer, tag: Tag, outcome: TransactionOutcome) {
        self.fresh += 1;
        let request = EndRequest {
            id: "id".into(),
            producer,
            outcome,
            protocol: Protocol::V2,
        };
        let ended = |answer| Message::Ended {
            client,
            tag,
            answer,
        };
        let fresh = Some(ProducerId(self.fresh));
        match self
            .transactions
            .decide_end(Timestamp(self.now), &request, fresh)
        {
            Ok(Ended::Decided(Decision::Store { record, answer })) => {
                self.store(record, Some(ended(Ok(answer))));
            }
            Ok(Ended::Decided(Decision::Answer(answer))) => self.send(ended(Ok(answer))),
            Ok(Ended::NeedsProducerId) => unreachable!("one was given"),
            Err(error) => self.send(ended(Err(error))),
        }
    }

    fn ended(&mut self, client: usize, tag: Tag, answer: Result<Producer, TransactionError>) {
        let Doing::Ending { tag: mine, outcome } = self.clients[client].doing else {
            return;
        };
        if mine != tag {
            return;
        }
        match (answer, outcome) {
            (Ok(producer), TransactionOutcome::Commit) => {
                self.committed.insert(tag);
                self.begin_transaction(client, producer);
            }
            (Ok(producer), TransactionOutcome::Abort) => {
                self.aborted.insert(tag);
                self.begin_transaction(client, producer);
            }
            (Err(TransactionError::Concurrent), _) => {}
            (Err(_), _) => self.initialize(client, None),
        }
    }

    fn step(&mut self, choice: u64) {
        let draw = choice >> 8;
        let pick = |len: usize| (draw % len as u64) as usize;
        match choice % 32 {
            0 if !self.network.is_empty() => {
                self.network.remove(pick(self.network.len()));
            }
            1..=2 if !self.network.is_empty() => {
                let copy = self.network[pick(self.network.len())].clone();
                self.deliver(copy);
            }
            3 => self.crash_coordinator(draw),
            4..=6 => self.poke_client(pick(CLIENTS)),
            7..=8 => self.poke_coordinator(),
            9 => self.give_up_writing(pick(CLIENTS)),
            10 if draw.is_multiple_of(4) => self.time_out(),
            11 if draw.is_multiple_of(4) => {
                let client = pick(CLIENTS);
                let expected = self.clients[client]
                    .producer
                    .filter(|_| draw.is_multiple_of(8));
                self.initialize(client, expected);
            }
            12..=17 if !self.storing.is_empty() => self.stored(pick(self.storing.len())),
            _ if !self.network.is_empty() => {
                let message = self.network.swap_remove(pick(self.network.len()));
                self.deliver(message);
            }
            _ => self.poke_client(pick(CLIENTS)),
        }
    }

    /// Clients are gone; what the coordinator has begun comes to an end.
    fn settle(&mut self) {
        for _ in 0..3 {
            while !self.network.is_empty() || !self.storing.is_empty() {
                while !self.storing.is_empty() {
                    self.stored(0);
                }
                if let Some(message) = self.network.pop() {
                    match message {
                        Message::Inited { .. } | Message::Ended { .. } | Message::Written(_) => {}
                        message => self.deliver(message),
                    }
                }
            }
            self.time_out();
            self.poke_coordinator();
        }
    }

    fn check(&self) {
        let visible: Vec<_> = self.partitions.iter().map(Partition::visible).collect();
        for tag in 1..=self.tags {
            let seen = visible.iter().filter(|tags| tags.contains(&tag)).count();
            assert!(seen == 0 || seen == PARTITIONS, "transaction {tag} is torn");
            if self.committed.contains(&tag) {
                assert_eq!(seen, PARTITIONS, "transaction {tag} was committed");
            }
            if self.aborted.contains(&tag) || !self.asked.contains(&tag) {
                assert_eq!(seen, 0, "nobody committed transaction {tag}");
            }
        }
        for partition in &self.partitions {
            let first_unstable = partition.replica.producers().first_unstable_offset();
            assert_eq!(first_unstable, None, "a transaction hangs");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn transactions_are_whole_whatever_is_lost_late_or_repeated(
        choices in proptest::collection::vec(any::<u64>(), 50..600)
    ) {
        let mut world = World::new();
        (0..CLIENTS).for_each(|client| world.poke_client(client));
        for choice in choices {
            world.step(choice);
        }
        world.settle();
        world.check();
    }
}

#[test]
fn without_faults_transactions_go_through() {
    let mut world = World::new();
    world.poke_client(0);
    for _ in 0..2_000 {
        while !world.storing.is_empty() {
            world.stored(0);
        }
        match world.network.pop() {
            Some(message) => world.deliver(message),
            None => {
                world.poke_coordinator();
                world.poke_client(0);
            }
        }
    }
    assert!(world.committed.len() > 20, "{}", world.committed.len());
    assert!(world.aborted.len() > 5);
    world.settle();
    world.check();
}
