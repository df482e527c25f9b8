//! What a seed stands for: the cluster, its clients, its network, and the faults in time order.
//!
//! The whole plan is drawn before the run, so that a failing one can be cut down: see [`Cut`].

use std::fmt;

use crate::random::Random;
use crate::trace::Micros;

const FAULTS_MAX: u64 = 14;
const MILLIS: Micros = 1000;

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) brokers: Vec<BrokerPlan>,
    pub(crate) topics: Vec<TopicPlan>,
    pub(crate) producers: Vec<ProducerPlan>,
    pub(crate) consumers: usize,
    /// A client deletes records.
    pub(crate) deletes: bool,
    pub(crate) network: NetworkPlan,
    pub(crate) faults: Vec<PlannedFault>,
    /// From here on nothing fails any more, and everything has to come right again.
    pub(crate) heal_at: Micros,
}

/// A broker's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerPlan {
    pub(crate) clock_ahead_millis: u64,
    /// Local milliseconds for a million true ones.
    pub(crate) clock_rate_ppm: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i32,
    pub(crate) min_insync_replicas: usize,
    pub(crate) unclean_leader_election: bool,
    /// `flush.messages=1`.
    pub(crate) flushes_every_message: bool,
}

/// What a producer waits for, and whether it repeats what was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProducerPlan {
    Fire,
    Leader,
    All,
    /// `acks=2`.
    Two,
    /// `acks=all` with sequence numbers and retries.
    Idempotent,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkPlan {
    pub(crate) delay: Micros,
    pub(crate) jitter: Micros,
    pub(crate) loss_per_mille: u64,
    pub(crate) duplicate_per_mille: u64,
    /// Commands that reach the controller long after they were sent.
    pub(crate) late_per_mille: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct PlannedFault {
    pub(crate) at: Micros,
    pub(crate) fault: Fault,
}

/// Something that goes wrong, or that an operator does at a bad time. Brokers are indexes.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// `kill -9`: the page cache stays.
    Kill {
        broker: usize,
        down: Micros,
    },
    /// The machines lose what they had not synced.
    PowerLoss {
        brokers: Vec<usize>,
        down: Micros,
    },
    /// Controlled shutdown and start.
    Restart {
        broker: usize,
    },
    /// `SIGSTOP`, `SIGCONT`.
    Pause {
        broker: usize,
        lasts: Micros,
    },
    /// Nothing gets from the first broker of a pair to the second.
    Partition {
        blocked: Vec<(usize, usize)>,
        lasts: Micros,
    },
    /// The broker learns of metadata late.
    SlowMetadata {
        broker: usize,
        lasts: Micros,
    },
    /// An `EIO` at one of the next operations.
    DiskError {
        broker: usize,
        after: u64,
    },
    /// No space left.
    DiskFull {
        broker: usize,
        lasts: Micros,
    },
    /// Another voter leads the metadata quorum.
    ControllerChange,
    /// `min.insync.replicas` of a topic.
    MinInsync {
        topic: usize,
        value: usize,
    },
    /// `unclean.leader.election.enable` of a topic.
    Unclean {
        topic: usize,
        value: bool,
    },
    AddPartition {
        topic: usize,
    },
    PreferredElection,
    /// What streams carry between brokers is held back, and arrives after that.
    Stall {
        held: Vec<(usize, usize)>,
        lasts: Micros,
    },
    /// New replicas for a partition of a topic, the preferred leader first.
    Reassign {
        topic: usize,
        partition: i32,
        replicas: Vec<usize>,
    },
    /// The reassignments of a topic's partitions are given up.
    GiveUpReassignment {
        topic: usize,
    },
}

/// Kinds of [`Fault`]; each run leaves some out.
const KINDS: usize = 16;

/// What is left out of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Indexes of faults, in their order.
    pub(crate) faults: Vec<usize>,
    /// Producers from the end.
    pub(crate) producers: usize,
    /// Topics from the end.
    pub(crate) topics: usize,
    /// Loss and duplication of messages.
    pub(crate) noise: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64, cut: &Cut) -> Self {
        let mut random = Random::new(seed);
        let brokers = if random.chance(700) {
            3
        } else {
            random.range(4, 6) as usize
        };
        let topics = topics(&mut random.fork(), brokers);
        let heal_at = random.range(2500, 5000) * MILLIS;
        let faults = faults(&mut random.fork(), brokers, topics.len(), heal_at);
        let mut plan = Self {
            seed,
            brokers: clocks(&mut random.fork(), brokers),
            producers: producers(&mut random.fork()),
            consumers: 1,
            deletes: false,
            network: network(&mut random.fork()),
            topics,
            faults,
            heal_at,
        };
        plan.deletes = random.chance(250);
        plan.cut(cut);
        plan
    }

    fn cut(&mut self, cut: &Cut) {
        let mut index = 0;
        self.faults.retain(|_| {
            index += 1;
            !cut.faults.contains(&(index - 1))
        });
        let kept = |len: usize, cut: usize| len.saturating_sub(cut).max(1);
        self.producers
            .truncate(kept(self.producers.len(), cut.producers));
        self.topics.truncate(kept(self.topics.len(), cut.topics));
        if cut.noise {
            self.network.loss_per_mille = 0;
            self.network.duplicate_per_mille = 0;
            self.network.late_per_mille = 0;
        }
    }
}

fn clocks(random: &mut Random, brokers: usize) -> Vec<BrokerPlan> {
    (0..brokers)
        .map(|_| BrokerPlan {
            clock_ahead_millis: random.range(0, 1 << 40),
            clock_rate_ppm: random.range(970_000, 1_030_000),
        })
        .collect()
}

fn topics(random: &mut Random, brokers: usize) -> Vec<TopicPlan> {
    const NAMES: [&str; 2] = ["orders", "clicks"];
    let count = if random.chance(300) { 2 } else { 1 };
    NAMES[..count]
        .iter()
        .map(|name| {
            let replication_factor = if random.chance(800) {
                3
            } else {
                random.range(1, brokers as u64 + 1)
            };
            let min_insync_replicas = if random.chance(650) {
                2
            } else {
                random.range(1, 4)
            };
            TopicPlan {
                name,
                partitions: random.range(1, 3) as i32,
                replication_factor: replication_factor as i32,
                min_insync_replicas: min_insync_replicas.min(replication_factor) as usize,
                unclean_leader_election: random.chance(80),
                flushes_every_message: random.chance(200),
            }
        })
        .collect()
}

fn producers(random: &mut Random) -> Vec<ProducerPlan> {
    let mut producers = vec![ProducerPlan::Idempotent];
    for plan in [
        ProducerPlan::All,
        ProducerPlan::Leader,
        ProducerPlan::Fire,
        ProducerPlan::Two,
        ProducerPlan::Idempotent,
    ] {
        if random.chance(350) {
            producers.push(plan);
        }
    }
    producers
}

fn network(random: &mut Random) -> NetworkPlan {
    let noisy = random.chance(500);
    let drawn = |random: &mut Random, max| if noisy { random.range(0, max) } else { 0 };
    NetworkPlan {
        delay: random.range(200, 2000),
        jitter: random.range(100, 10_000),
        loss_per_mille: drawn(random, 30),
        duplicate_per_mille: drawn(random, 30),
        late_per_mille: drawn(random, 700),
    }
}

/// Each run leaves some kinds out: what two kinds do together shows best without the others.
fn faults(
    random: &mut Random,
    brokers: usize,
    topics: usize,
    heal_at: Micros,
) -> Vec<PlannedFault> {
    let kinds: Vec<usize> = (0..KINDS).filter(|_| random.chance(450)).collect();
    let mut faults = Vec::new();
    if kinds.is_empty() {
        return faults;
    }
    for _ in 0..random.range(1, FAULTS_MAX) {
        let kind = kinds[random.index(kinds.len())];
        faults.push(PlannedFault {
            at: random.range(600 * MILLIS, heal_at),
            fault: fault(random, kind, brokers, topics),
        });
    }
    faults.sort_by_key(|fault| fault.at);
    faults
}

fn fault(random: &mut Random, kind: usize, brokers: usize, topics: usize) -> Fault {
    let broker = random.index(brokers);
    let topic = random.index(topics);
    let down = random.range(50, 1500) * MILLIS;
    let lasts = random.range(50, 2500) * MILLIS;
    match kind {
        0 => Fault::Kill { broker, down },
        1 => Fault::PowerLoss {
            brokers: some_brokers(random, broker, brokers),
            down,
        },
        2 => Fault::Restart { broker },
        3 => Fault::Pause { broker, lasts },
        4 => Fault::Partition {
            blocked: blocked(random, broker, brokers),
            lasts,
        },
        5 => Fault::SlowMetadata { broker, lasts },
        6 => Fault::DiskError {
            broker,
            after: random.range(0, 30),
        },
        7 => Fault::DiskFull { broker, lasts },
        8 => Fault::ControllerChange,
        9 => Fault::MinInsync {
            topic,
            value: random.range(1, 4) as usize,
        },
        10 => Fault::Unclean {
            topic,
            value: random.chance(300),
        },
        11 => Fault::AddPartition { topic },
        12 => Fault::PreferredElection,
        13 => Fault::Stall {
            held: blocked(random, broker, brokers),
            lasts,
        },
        14 => Fault::Reassign {
            topic,
            partition: random.range(0, 2) as i32,
            replicas: replicas(random, brokers),
        },
        _ => Fault::GiveUpReassignment { topic },
    }
}

fn replicas(random: &mut Random, brokers: usize) -> Vec<usize> {
    let mut all: Vec<usize> = (0..brokers).collect();
    let count = if random.chance(600) {
        3
    } else {
        random.range(1, 4) as usize
    };
    (0..count)
        .map(|_| all.remove(random.index(all.len())))
        .collect()
}

/// Mostly one broker; a rack or all of them at times.
fn some_brokers(random: &mut Random, first: usize, brokers: usize) -> Vec<usize> {
    match random.range(0, 10) {
        0 => (0..brokers).collect(),
        1 | 2 => vec![first, (first + 1) % brokers],
        _ => vec![first],
    }
}

/// One broker cut off in both directions or one, two halves, or two halves with a bridge.
fn blocked(random: &mut Random, one: usize, brokers: usize) -> Vec<(usize, usize)> {
    let others = (0..brokers).filter(|other| *other != one);
    match random.range(0, 5) {
        0 => others
            .flat_map(|other| [(one, other), (other, one)])
            .collect(),
        1 => others.map(|other| (one, other)).collect(),
        2 => others.map(|other| (other, one)).collect(),
        3 => {
            let other = (one + 1) % brokers;
            vec![(one, other), (other, one)]
        }
        _ => {
            let bridge = (one + 1) % brokers;
            let left = |broker: usize| broker < brokers / 2;
            let pairs = (0..brokers).flat_map(|a| (0..brokers).map(move |b| (a, b)));
            pairs
                .filter(|(a, b)| left(*a) != left(*b) && *a != bridge && *b != bridge)
                .collect()
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            faults,
            producers,
            topics,
            noise,
        } = self;
        write!(
            f,
            "{} faults, {producers} producers, {topics} topics",
            faults.len()
        )?;
        f.write_str(if *noise { ", noise" } else { "" })
    }
}
