//! Who can reach whom, and how long it takes.

use std::collections::BTreeMap;

use crate::event::Peer;
use crate::plan::NetworkPlan;
use crate::random::Random;
use crate::trace::Micros;

/// More than the time after which a leader repeats a proposal.
const LATE_MAX: Micros = 3_500_000;

/// What becomes of a message.
pub(crate) enum Fate {
    Lost,
    /// Arrives once for each delay.
    Arrives(Micros, Option<Micros>),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Network {
    plan: NetworkPlan,
    random: Random,
    /// Until when nothing gets from the first broker to the second.
    blocked: BTreeMap<(usize, usize), Micros>,
    /// Until when what streams carry from the first broker to the second is held back.
    stalled: BTreeMap<(usize, usize), Micros>,
}

impl Network {
    pub(crate) const fn new(plan: NetworkPlan, random: Random) -> Self {
        Self {
            plan,
            random,
            blocked: BTreeMap::new(),
            stalled: BTreeMap::new(),
        }
    }

    pub(crate) fn block(&mut self, link: (usize, usize), until: Micros) {
        let blocked = self.blocked.entry(link).or_default();
        *blocked = until.max(*blocked);
    }

    pub(crate) fn stall(&mut self, link: (usize, usize), until: Micros) {
        let stalled = self.stalled.entry(link).or_default();
        *stalled = until.max(*stalled);
    }

    /// No message is lost, repeated or blocked from now on.
    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
        self.stalled.clear();
        self.plan.loss_per_mille = 0;
        self.plan.duplicate_per_mille = 0;
        self.plan.late_per_mille = 0;
    }

    /// Whether messages get from one broker to the other. Clients reach every broker.
    pub(crate) fn reaches(&self, now: Micros, from: Peer, to: Peer) -> bool {
        let (Peer::Broker(from), Peer::Broker(to)) = (from, to) else {
            return true;
        };
        self.blocked
            .get(&(from, to))
            .is_none_or(|until| *until <= now)
    }

    /// Whether both brokers reach each other.
    pub(crate) fn connects(&self, now: Micros, a: usize, b: usize) -> bool {
        let (a, b) = (Peer::Broker(a), Peer::Broker(b));
        self.reaches(now, a, b) && self.reaches(now, b, a)
    }

    pub(crate) fn fate(&mut self, now: Micros, from: Peer, to: Peer) -> Fate {
        let lost = self.random.chance(self.plan.loss_per_mille);
        if lost || !self.reaches(now, from, to) {
            return Fate::Lost;
        }
        let again = self.random.chance(self.plan.duplicate_per_mille);
        let first = self.delay();
        Fate::Arrives(first, again.then(|| first + 20 * self.delay()))
    }

    /// When a command and its copy arrive, `None` when they don't: a broker whose connection breaks
    /// sends the same once more.
    pub(crate) fn command_delays(
        &mut self,
        now: Micros,
        from: Peer,
        to: Peer,
    ) -> [Option<Micros>; 2] {
        let Fate::Arrives(delay, again) = self.fate(now, from, to) else {
            return [None; 2];
        };
        [Some(self.command_delay(delay)), again]
    }

    fn command_delay(&mut self, delay: Micros) -> Micros {
        let late = self.random.chance(self.plan.late_per_mille);
        if late {
            self.random.range(delay, LATE_MAX)
        } else {
            delay
        }
    }

    /// When what a stream carries arrives.
    pub(crate) fn stream_delay(&mut self, now: Micros, from: Peer, to: Peer) -> Micros {
        let delay = self.delay();
        let (Peer::Broker(from), Peer::Broker(to)) = (from, to) else {
            return delay;
        };
        let held_until = self.stalled.get(&(from, to)).copied().unwrap_or_default();
        delay + held_until.saturating_sub(now)
    }

    pub(crate) fn delay(&mut self) -> Micros {
        self.plan.delay + self.random.range(0, self.plan.jitter)
    }
}
