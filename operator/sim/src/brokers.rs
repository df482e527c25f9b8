//! A model of the brokers: processes, the metadata quorum, and what the active controller knows and
//! does: registrations, leaders, in-sync replicas, restart leases, moves of replicas.
//!
//! Without an active controller nothing of the metadata changes.

mod moves;

use std::collections::{BTreeMap, BTreeSet};

use moves::Move;

use crate::random::Random;
use crate::trace::Seconds;

/// A broker that has not been heard of for so long is fenced.
const SESSION_TIMEOUT: Seconds = 3;
const SLOW_FACTOR: Seconds = 10;

/// A broker together with the directory that holds its metadata log.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Member {
    pub(crate) id: i32,
    pub(crate) directory: String,
}

/// A broker's running process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) incarnation: String,
    pub(crate) started_at: Seconds,
    pub(crate) directory: String,
    /// When its log is recovered.
    pub(crate) recovered_at: Seconds,
    /// With whom it may form a quorum if it knows of none; empty when it may not.
    pub(crate) founders: Vec<i32>,
    /// Is told to stop.
    pub(crate) stopping: bool,
    /// Has been let in by the controller.
    pub(crate) ready: bool,
}

/// What the controller knows of a broker.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    pub(crate) incarnation: String,
    pub(crate) started_at: Seconds,
    pub(crate) directory: String,
    pub(crate) fenced: bool,
    pub(crate) stopping: bool,
    pub(crate) cordoned: bool,
    pub(crate) drain: bool,
    pub(crate) lease_until: Option<Seconds>,
    silent_since: Option<Seconds>,
    caught_up_at: Seconds,
    last_progress_at: Seconds,
}

impl Registration {
    pub(crate) fn begin_to_drain(&mut self, now: Seconds) {
        self.drain = true;
        self.last_progress_at = now;
    }
}

/// A partition as the metadata have it.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    /// The preferred leader first.
    pub(crate) replicas: Vec<i32>,
    pub(crate) isr: Vec<i32>,
    pub(crate) leader: Option<i32>,
    pub(crate) moving: Option<Move>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Brokers {
    pub(crate) now: Seconds,
    pub(crate) processes: BTreeMap<i32, Process>,
    pub(crate) registered: BTreeMap<i32, Registration>,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) min_insync: usize,
    pub(crate) voters: Vec<Member>,
    /// With the time at which each has the log.
    pub(crate) learners: Vec<(Member, Seconds)>,
    pub(crate) controller: Option<i32>,
    election_at: Seconds,
    /// Of the newest operator that changed anything.
    pub(crate) operator_epoch: u64,
    pub(crate) dynamic_config: BTreeMap<String, String>,
    pub(crate) rebalancing: bool,
    rebalanced_at: Seconds,
    pub(crate) slow_until: Seconds,
    pub(crate) random: Random,
    /// Of every broker that has ever been registered: such a one knows the quorum.
    pub(crate) directories: BTreeSet<String>,
    /// Rises with everything that somebody can see.
    pub(crate) version: u64,
}

impl Brokers {
    pub(crate) const fn new(min_insync: usize, random: Random) -> Self {
        Self {
            now: 0,
            processes: BTreeMap::new(),
            registered: BTreeMap::new(),
            partitions: Vec::new(),
            min_insync,
            voters: Vec::new(),
            learners: Vec::new(),
            controller: None,
            election_at: 0,
            operator_epoch: 0,
            dynamic_config: BTreeMap::new(),
            rebalancing: false,
            rebalanced_at: 0,
            slow_until: 0,
            random,
            directories: BTreeSet::new(),
            version: 0,
        }
    }

    pub(crate) fn start(&mut self, id: i32, process: Process) {
        self.processes.insert(id, process);
        self.version += 1;
    }

    /// The process leads nothing any more and stops soon.
    pub(crate) fn ask_to_stop(&mut self, id: i32) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.stopping = true;
            self.version += 1;
        }
    }

    /// The process is gone. One that was told to stop has said goodbye.
    pub(crate) fn end(&mut self, id: i32) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        self.version += 1;
        if process.stopping && self.controller.is_some() && self.is_of(id, &process) {
            self.fence(id);
        }
    }

    pub(crate) fn is_recovered(&self, id: i32) -> bool {
        let process = self.processes.get(&id);
        process.is_some_and(|process| process.recovered_at <= self.now)
    }

    pub(crate) fn is_ready(&self, id: i32) -> bool {
        self.processes.get(&id).is_some_and(|process| process.ready)
    }

    /// Whether the member's process runs, with its log.
    pub(crate) fn answers(&self, member: &Member) -> bool {
        let process = self.processes.get(&member.id);
        process.is_some_and(|process| process.directory == member.directory)
            && self.is_recovered(member.id)
    }

    pub(crate) fn has_majority(&self, voters: &[Member]) -> bool {
        let answering = voters.iter().filter(|voter| self.answers(voter));
        answering.count() * 2 > voters.len()
    }

    pub(crate) fn votes(&self, id: i32) -> bool {
        self.voters.iter().any(|voter| voter.id == id)
    }

    /// In the metadata's view.
    pub(crate) fn is_active(&self, id: i32) -> bool {
        let broker = self.registered.get(&id);
        broker.is_some_and(|broker| !broker.fenced && !broker.stopping)
    }

    /// Active, and not about to be restarted.
    pub(crate) fn is_wanted_as_leader(&self, id: i32) -> bool {
        let broker = self.registered.get(&id);
        self.is_active(id) && broker.is_some_and(|broker| broker.lease_until.is_none())
    }

    pub(crate) fn replicas(&self, id: i32) -> usize {
        let has = |partition: &&Partition| partition.replicas.contains(&id);
        self.partitions.iter().filter(has).count()
    }

    fn is_of(&self, id: i32, process: &Process) -> bool {
        let broker = self.registered.get(&id);
        broker.is_some_and(|broker| broker.incarnation == process.incarnation)
    }

    /// How long copying takes.
    fn copying(&mut self, low: Seconds, high: Seconds) -> Seconds {
        let slow = self.now < self.slow_until;
        self.random.range(low, high) * if slow { SLOW_FACTOR } else { 1 }
    }

    /// A second passes.
    pub(crate) fn step(&mut self, now: Seconds) {
        self.now = now;
        self.elect();
        if self.controller.is_none() {
            return;
        }
        self.hear();
        self.end_leases();
        self.catch_up();
        self.lead();
        self.finish_moves();
        self.drain();
        self.rebalance();
    }

    fn elect(&mut self) {
        if self.voters.is_empty() {
            self.found();
        }
        let controls = |voter: &Member| Some(voter.id) == self.controller && self.answers(voter);
        let majority = self.has_majority(&self.voters);
        if majority && self.voters.iter().any(controls) {
            return;
        }
        if self.controller.take().is_some() {
            self.election_at = self.now + self.random.range(1, 4);
            self.version += 1;
        }
        if majority && self.election_at <= self.now {
            let able: Vec<_> = self
                .voters
                .iter()
                .filter(|voter| self.answers(voter))
                .collect();
            let able: Vec<i32> = able.iter().map(|voter| voter.id).collect();
            self.controller = self.random.pick(&able).copied();
            self.version += 1;
            // It does not know yet who is silent.
            for broker in self.registered.values_mut() {
                broker.silent_since = None;
            }
        }
    }

    /// Processes that know of no quorum and name the same founders form one.
    fn found(&mut self) {
        let founders = self.processes.values().map(|process| &process.founders);
        let Some(founders) = founders.into_iter().find(|founders| !founders.is_empty()) else {
            return;
        };
        let agrees = |id: &i32| {
            let process = self.processes.get(id).filter(|_| self.is_recovered(*id))?;
            (process.founders == *founders).then(|| Member {
                id: *id,
                directory: process.directory.clone(),
            })
        };
        let members: Option<Vec<_>> = founders.iter().map(agrees).collect();
        if let Some(members) = members {
            self.voters = members;
            self.version += 1;
        }
    }

    /// Registers new processes, fences silent ones.
    fn hear(&mut self) {
        let (now, controller) = (self.now, self.controller);
        let processes = self.processes.iter();
        let heard: Vec<(i32, Process)> = processes
            .filter(|(id, process)| process.recovered_at < now || Some(**id) == controller)
            .map(|(id, process)| (*id, process.clone()))
            .collect();
        for (id, process) in &heard {
            if !self.is_of(*id, process) && !process.stopping {
                self.register(*id, process);
            } else if self.is_of(*id, process) {
                self.hear_of(*id, process);
            }
        }
        let is_heard = |id: i32, broker: &Registration| {
            let mut heard = heard.iter();
            heard.any(|(of, process)| *of == id && process.incarnation == broker.incarnation)
        };
        let mut lost = Vec::new();
        for (id, broker) in &mut self.registered {
            if broker.fenced || is_heard(*id, broker) {
                broker.silent_since = None;
            } else if now - *broker.silent_since.get_or_insert(now) >= SESSION_TIMEOUT {
                lost.push(*id);
            }
        }
        lost.into_iter().for_each(|id| self.fence(id));
    }

    fn register(&mut self, id: i32, process: &Process) {
        self.fence(id);
        self.directories.insert(process.directory.clone());
        let former = self.registered.get(&id);
        let broker = Registration {
            incarnation: process.incarnation.clone(),
            started_at: process.started_at,
            directory: process.directory.clone(),
            fenced: true,
            stopping: false,
            cordoned: former.is_some_and(|former| former.cordoned),
            drain: former.is_some_and(|former| former.drain),
            lease_until: None,
            silent_since: None,
            caught_up_at: 0,
            last_progress_at: self.now,
        };
        self.registered.insert(id, broker);
        self.version += 1;
    }

    fn hear_of(&mut self, id: i32, process: &Process) {
        let caught_up_at = self.now + self.copying(2, 15);
        let Some(broker) = self.registered.get_mut(&id) else {
            return;
        };
        if process.stopping && !broker.stopping {
            broker.stopping = true;
            self.version += 1;
        } else if broker.fenced && !process.stopping {
            broker.fenced = false;
            broker.caught_up_at = caught_up_at;
            self.version += 1;
            if let Some(process) = self.processes.get_mut(&id) {
                process.ready = true;
            }
        }
    }

    fn fence(&mut self, id: i32) {
        let Some(broker) = self.registered.get_mut(&id) else {
            return;
        };
        broker.fenced = true;
        broker.stopping = false;
        broker.lease_until = None;
        self.version += 1;
        for partition in &mut self.partitions {
            if partition.isr.len() > 1 {
                partition.isr.retain(|member| *member != id);
            }
        }
        self.lead();
    }

    fn end_leases(&mut self) {
        let now = self.now;
        let held = self.registered.iter_mut();
        let ended = held.filter(|(_, broker)| broker.lease_until.is_some_and(|until| until <= now));
        let ended: Vec<i32> = ended
            .map(|(id, broker)| {
                broker.lease_until = None;
                *id
            })
            .collect();
        for id in ended {
            self.restore_leaders(Some(id));
        }
    }

    /// Of this broker, or of all.
    pub(crate) fn restore_leaders(&mut self, of: Option<i32>) {
        for index in 0..self.partitions.len() {
            let partition = &self.partitions[index];
            let preferred = partition.replicas[0];
            let may = partition.isr.contains(&preferred) && self.is_wanted_as_leader(preferred);
            if may && of.is_none_or(|of| of == preferred) && partition.leader != Some(preferred) {
                self.partitions[index].leader = Some(preferred);
            }
        }
        self.version += 1;
    }

    fn catch_up(&mut self) {
        for (id, broker) in &self.registered {
            if broker.fenced || broker.stopping || broker.caught_up_at > self.now {
                continue;
            }
            for partition in &mut self.partitions {
                let behind = partition.replicas.contains(id) && !partition.isr.contains(id);
                if behind && partition.leader.is_some() {
                    partition.isr.push(*id);
                    self.version += 1;
                }
            }
        }
    }

    /// Gives every partition a leader that may lead, if it has one.
    pub(crate) fn lead(&mut self) {
        for index in 0..self.partitions.len() {
            let partition = &self.partitions[index];
            let in_sync = || {
                let replicas = partition.replicas.iter().copied();
                replicas.filter(|id| partition.isr.contains(id))
            };
            let led = partition
                .leader
                .filter(|id| in_sync().any(|other| other == *id));
            let wanted = led.filter(|id| self.is_wanted_as_leader(*id));
            let leader = wanted
                .or_else(|| in_sync().find(|id| self.is_wanted_as_leader(*id)))
                .or_else(|| led.filter(|id| self.is_unfenced(*id)))
                .or_else(|| in_sync().find(|id| self.is_unfenced(*id)));
            if leader != partition.leader {
                self.partitions[index].leader = leader;
                self.version += 1;
            }
        }
    }

    fn is_unfenced(&self, id: i32) -> bool {
        let broker = self.registered.get(&id);
        broker.is_some_and(|broker| !broker.fenced)
    }

    /// Makes the topics, once there are brokers for them.
    pub(crate) fn make_partitions(&mut self, count: usize, replication_factor: usize) {
        let brokers: Vec<i32> = self.registered.keys().copied().collect();
        let place = |index: usize| {
            let replicas =
                (0..replication_factor).map(|nth| brokers[(index + nth) % brokers.len()]);
            let replicas: Vec<i32> = replicas.collect();
            Partition {
                isr: replicas.clone(),
                leader: Some(replicas[0]),
                replicas,
                moving: None,
            }
        };
        self.partitions = (0..count).map(place).collect();
        self.version += 1;
    }
}
