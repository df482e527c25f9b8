//! What a seed stands for: the cluster that is made, and what users, machines and networks do to it.
//! Everything is drawn before the run.

use crate::random::Random;
use crate::trace::Seconds;

const EVENTS_MIN: i64 = 1;
const EVENTS_MAX: i64 = 5;

/// Everything that a run is made of.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub(crate) zones: usize,
    pub(crate) brokers: i32,
    pub(crate) voters: i32,
    pub(crate) partitions: usize,
    pub(crate) replication_factor: usize,
    pub(crate) min_insync: usize,
    pub(crate) soak: Seconds,
    pub(crate) deletes_volumes: bool,
    pub(crate) rebalance: &'static str,
    /// In order of time.
    pub(crate) events: Vec<(Seconds, Event)>,
    /// From here on nothing fails any more, and everything has to come right.
    pub(crate) heal_at: Seconds,
    /// For all that is drawn while it runs.
    pub(crate) random: Random,
}

/// Something that users do, or that goes wrong. A number that stands for a broker or a zone is taken
/// modulo how many there are then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A new image that works.
    Upgrade,
    /// One that nobody can pull; the former one comes back after so long.
    BadImage(Seconds),
    /// A setting for which brokers restart.
    StaticConfig,
    /// A setting that running brokers take.
    DynamicConfig,
    /// A setting that no broker takes; it is removed after so long.
    BadConfig(Seconds),
    /// Brokers more or fewer.
    Scale(i32),
    /// A broker fewer, this one.
    RemoveBroker(usize),
    Voters(i32),
    /// A broker that must not be restarted for so long.
    Hold(usize, Seconds),
    /// `spec.paused` for so long.
    Pause(Seconds),
    /// Pods of the broker's node are evicted, and no other comes to it for so long.
    DrainNode(usize, Seconds),
    /// The broker's node is down for so long.
    LoseNode(usize, Seconds),
    /// The node never comes back, and is deleted after so long.
    RemoveNode(usize, Seconds),
    LoseZone(usize, Seconds),
    /// The broker's volume is deleted, and its pod with it.
    LoseVolume(usize),
    /// The process ends again and again for so long.
    CrashLoop(usize, Seconds),
    /// Everything is copied at a tenth of the speed for so long.
    SlowCatchUp(Seconds),
    /// Some calls to the API server fail for so long.
    ApiErrors(Seconds),
    /// Some calls to the brokers fail, or their answers are lost, for so long.
    AdminErrors(Seconds),
    /// The operator learns nothing new of nodes for so long.
    StaleNodes(Seconds),
    /// The operator that holds the lease dies.
    CrashOperator,
    /// The operator that holds the lease stands still for so long.
    PauseOperator(Seconds),
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let zones = [1, 1, 2, 3, 3, 3][random.index(6)];
        let brokers = [1, 2, 3, 3, 3, 4, 5, 6][random.index(8)];
        let possible: Vec<i32> = [1, 3, 3, 5]
            .into_iter()
            .filter(|count| *count <= brokers)
            .collect();
        let voters = possible[random.index(possible.len())];
        let factor_max = usize::try_from(brokers).unwrap_or(1).min(3);
        let replication_factor = if random.chance(800) {
            factor_max
        } else {
            1 + random.index(factor_max)
        };
        let min_insync = match replication_factor {
            3 if random.chance(900) => 2,
            factor => 1 + random.index(factor),
        };
        let partitions = 2 + random.index(6);
        let kinds = Kinds::new(&mut random);
        let mut at = random.range(5, 60);
        let mut events = Vec::new();
        for _ in 0..random.range(EVENTS_MIN, EVENTS_MAX + 1) {
            events.push((at, kinds.event(&mut random)));
            // Some come together, most one after the other.
            at += if random.chance(300) {
                random.range(0, 15)
            } else {
                random.range(15, 200)
            };
        }
        Self {
            zones,
            brokers,
            voters,
            partitions,
            replication_factor,
            min_insync,
            soak: [0, 5, 15][random.index(3)],
            deletes_volumes: random.chance(500),
            rebalance: ["OnScaleUp", "OnScaleUp", "Automatic", "Disabled"][random.index(4)],
            heal_at: at + random.range(0, 60),
            events,
            random: random.fork(),
        }
    }
}

/// Each run leaves some kinds of events out, so that the others meet more often.
struct Kinds(Vec<usize>);

impl Kinds {
    const COUNT: usize = 22;

    fn new(random: &mut Random) -> Self {
        let left_out = random.range(0, 800);
        let kept: Vec<_> = (0..Self::COUNT)
            .filter(|_| !random.chance(left_out))
            .collect();
        Self(if kept.is_empty() { vec![0] } else { kept })
    }

    fn event(&self, random: &mut Random) -> Event {
        let kind = random.pick(&self.0).copied().unwrap_or(0);
        let target = random.index(60);
        let short = random.range(5, 60);
        let long = random.range(20, 180);
        match kind {
            0 => Event::Upgrade,
            1 => Event::BadImage(long),
            2 => Event::StaticConfig,
            3 => Event::DynamicConfig,
            4 => Event::BadConfig(long),
            5 => Event::Scale([-2, -1, 1, 1, 2][random.index(5)]),
            6 => Event::RemoveBroker(target),
            7 => Event::Voters([1, 3, 5][random.index(3)]),
            8 => Event::Hold(target, long),
            9 => Event::Pause(short),
            10 => Event::DrainNode(target, long),
            11 => Event::LoseNode(target, long),
            12 => Event::RemoveNode(target, short),
            13 => Event::LoseZone(target, short),
            14 => Event::LoseVolume(target),
            15 => Event::CrashLoop(target, long),
            16 => Event::SlowCatchUp(long),
            17 => Event::ApiErrors(short),
            18 => Event::AdminErrors(short),
            19 => Event::StaleNodes(long),
            20 => Event::CrashOperator,
            _ => Event::PauseOperator(random.range(5, 40)),
        }
    }
}
