//! The leader's end of one follower's stream. Mirrors `broker/src/replica/service.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use broker_core::partition::Puller;
use broker_core::{BrokerEpoch, BrokerId, Time, TopicPartition};

use super::hosted::Hosted;
use super::pull::Served;
use crate::event::{FollowerPosition, Pull, PulledContent, PulledPartition};
use crate::trace::Micros;

/// Small, so that a partition takes several pulls.
const BYTES_MAX: usize = 1200;

#[derive(Clone, Copy, Debug)]
struct Position {
    state: FollowerPosition,
    /// Something was sent from here: the follower says where it goes on.
    answered: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) follower: usize,
    stream: u64,
    /// When the stream's last message to the follower arrives.
    pub(crate) last: Micros,
    pub(crate) news: BTreeSet<TopicPartition>,
    pub(crate) lazy: BTreeSet<TopicPartition>,
    positions: BTreeMap<TopicPartition, Position>,
    /// Pulls that wait for an answer, the first one for news.
    waiting: VecDeque<BrokerEpoch>,
    named: BTreeSet<TopicPartition>,
}

/// What a step of a session comes to.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// One for each answer.
    pub(crate) answers: Vec<Vec<PulledPartition>>,
    /// Partitions whose follower may enter the ISR.
    pub(crate) isr_due: BTreeSet<TopicPartition>,
}

type Partitions = BTreeMap<TopicPartition, Hosted>;

impl Session {
    pub(crate) const fn new(follower: usize, stream: u64) -> Self {
        Self {
            follower,
            stream,
            last: 0,
            news: BTreeSet::new(),
            lazy: BTreeSet::new(),
            positions: BTreeMap::new(),
            waiting: VecDeque::new(),
            named: BTreeSet::new(),
        }
    }

    pub(crate) fn names(&self, partition: TopicPartition) -> bool {
        self.positions.contains_key(&partition)
    }

    /// A pull ends the wait of the one before it.
    pub(crate) fn pull(&mut self, now: Time, pull: Pull, partitions: &mut Partitions) -> Step {
        let mut step = Step::default();
        if !self.waiting.is_empty() {
            self.answer(now, partitions, &mut step, true);
        }
        for id in pull.removed {
            self.positions.remove(&id);
        }
        for (id, state) in pull.partitions {
            let answered = false;
            let known = self.positions.insert(id, Position { state, answered });
            // What was told in an earlier epoch was not taken over.
            if known.is_none_or(|known| known.state.leader_epoch != state.leader_epoch) {
                self.lazy.insert(id);
            }
            self.named.insert(id);
        }
        self.waiting.push_back(pull.broker_epoch);
        self.answer(now, partitions, &mut step, false);
        step
    }

    /// There is news, or the wait is over.
    pub(crate) fn wake(&mut self, now: Time, partitions: &mut Partitions, overdue: bool) -> Step {
        let mut step = Step::default();
        self.answer(now, partitions, &mut step, overdue);
        step
    }

    fn answer(&mut self, now: Time, partitions: &mut Partitions, step: &mut Step, overdue: bool) {
        let Some(broker_epoch) = self.waiting.front().copied() else {
            return;
        };
        let puller = Puller {
            broker: BrokerId(self.follower as i32),
            broker_epoch,
            stream: self.stream,
        };
        let mut answer = Vec::new();
        let mut due = std::mem::take(&mut self.named);
        due.append(&mut self.news);
        for id in due {
            answer.extend(self.read(now, puller, id, partitions, step));
        }
        if answer.is_empty() && !overdue {
            return;
        }
        self.waiting.pop_front();
        self.add_high_watermarks(now, puller, partitions, &mut answer);
        step.answers.push(answer);
    }

    fn read(
        &mut self,
        now: Time,
        puller: Puller,
        id: TopicPartition,
        partitions: &mut Partitions,
        step: &mut Step,
    ) -> Option<PulledPartition> {
        let position = self.positions.get(&id).copied()?;
        if position.answered {
            return None;
        }
        let (content, hosted) = match partitions.get_mut(&id) {
            None => (PulledContent::Refused, None),
            Some(hosted) => match hosted.serve_pull(now, puller, position.state, BYTES_MAX) {
                Served::Refused | Served::Unreadable => (PulledContent::Refused, Some(hosted)),
                Served::Nothing { may_enter_isr } => {
                    step.isr_due.extend(may_enter_isr.then_some(id));
                    return None;
                }
                Served::Answer {
                    content,
                    may_enter_isr,
                } => {
                    step.isr_due.extend(may_enter_isr.then_some(id));
                    (content, Some(hosted))
                }
            },
        };
        match content {
            PulledContent::Refused | PulledContent::OutOfRange => {
                self.positions.remove(&id);
            }
            PulledContent::Records(_) | PulledContent::Diverging(_) => {
                self.positions
                    .entry(id)
                    .and_modify(|position| position.answered = true);
            }
        }
        let epoch = position.state.leader_epoch;
        Some(PulledPartition {
            partition: id,
            leader_epoch: epoch,
            high_watermark: hosted
                .as_ref()
                .map_or_else(Default::default, |h| h.replica.high_watermark()),
            log_start: hosted
                .as_ref()
                .map_or_else(Default::default, |h| h.log.start_offset()),
            content,
        })
    }

    /// Lets the follower know high watermarks that moved since the last answer.
    fn add_high_watermarks(
        &mut self,
        now: Time,
        puller: Puller,
        partitions: &mut Partitions,
        answer: &mut Vec<PulledPartition>,
    ) {
        for id in std::mem::take(&mut self.lazy) {
            let told = |answered: &PulledPartition| {
                answered.partition == id && matches!(answered.content, PulledContent::Records(_))
            };
            if answer.iter().any(told) {
                continue;
            }
            let (Some(position), Some(hosted)) = (self.positions.get(&id), partitions.get_mut(&id))
            else {
                continue;
            };
            let served = hosted.serve_pull(now, puller, position.state, 0);
            if matches!(served, Served::Nothing { .. }) {
                answer.push(PulledPartition {
                    partition: id,
                    leader_epoch: hosted.replica.leader_epoch(),
                    high_watermark: hosted.replica.high_watermark(),
                    log_start: hosted.log.start_offset(),
                    content: PulledContent::Records(bytes::Bytes::new()),
                });
            } else if !matches!(served, Served::Refused) {
                self.lazy.insert(id);
            }
        }
    }
}
