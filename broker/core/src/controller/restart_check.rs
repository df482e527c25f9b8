//! Whether brokers may be stopped now: what the cluster would be without them.
//!
//! Brokers that are fenced, not heard of, or stopping anyway count as stopped as well.
//!
//! Invariant (property test): after a safe verdict, with the brokers fenced, every partition that
//! was not accepted has a leader if it had one, and `min.insync.replicas` in sync if it had them.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::metadata::{Image, PartitionImage, ReplicaHealth, TopicImage};
use crate::{BrokerId, PartitionIndex};

/// Findings of each kind that a verdict names; it counts the others.
pub const FINDINGS_MAX: usize = 100;

/// Voters up to this number all belong to every majority.
const VOTERS_WITHOUT_SPARE_MAX: usize = 2;

/// The question.
#[derive(Clone, Copy, Debug)]
pub struct RestartCheck<'a> {
    /// To be stopped together.
    pub brokers: &'a BTreeSet<BrokerId>,
    /// Voters of the metadata quorum.
    pub voters: &'a [BrokerId],
    /// Brokers that may have died unnoticed, and voters that are far behind.
    pub doubtful: &'a BTreeSet<BrokerId>,
    /// `min.insync.replicas` where neither topic nor cluster sets it.
    pub min_insync_replicas_default: usize,
}

/// Why brokers may not be stopped now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartBlocker {
    /// Fewer replicas than `min.insync.replicas` would be in sync.
    BelowMinIsr,
    /// No replica would be left that may lead.
    Unavailable,
    /// The metadata quorum would lose its majority.
    QuorumLoss,
    /// As [`Self::BelowMinIsr`] or [`Self::Unavailable`], until a live replica has caught up.
    NotCaughtUp,
}

/// What no order of restarts can avoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptedRisk {
    /// The only replica stops.
    SingleReplica,
    /// `min.insync.replicas` asks for every replica: acks=all is refused meanwhile.
    MinIsrNeedsEveryReplica,
    /// There are one or two voters: metadata does not change meanwhile.
    QuorumNeedsEveryVoter,
}

/// A reason with its partition, which the metadata quorum has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding<R> {
    pub partition: Option<(Arc<str>, PartitionIndex)>,
    pub reason: R,
}

/// The first [`FINDINGS_MAX`] findings, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings<R> {
    pub named: Vec<Finding<R>>,
    pub total: usize,
}

impl<R> Findings<R> {
    const fn new() -> Self {
        Self {
            named: Vec::new(),
            total: 0,
        }
    }

    fn add(&mut self, partition: Option<(Arc<str>, PartitionIndex)>, reason: R) {
        self.total += 1;
        if self.named.len() < FINDINGS_MAX {
            self.named.push(Finding { partition, reason });
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartVerdict {
    pub blockers: Findings<RestartBlocker>,
    pub accepted: Findings<AcceptedRisk>,
}

impl RestartVerdict {
    /// Whether the brokers may be stopped.
    #[must_use]
    pub const fn is_safe(&self) -> bool {
        self.blockers.total == 0
    }

    fn add(&mut self, partition: Option<(Arc<str>, PartitionIndex)>, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::Blocked(reason) => self.blockers.add(partition, reason),
            Effect::Accepted(reason) => self.accepted.add(partition, reason),
        }
    }
}

/// What the stop means for one partition or for the quorum.
enum Effect {
    None,
    Blocked(RestartBlocker),
    Accepted(AcceptedRisk),
}

/// Judges a restart on `image`.
#[must_use]
pub fn check_restart(image: &Image, check: &RestartCheck<'_>) -> RestartVerdict {
    let mut verdict = RestartVerdict {
        blockers: Findings::new(),
        accepted: Findings::new(),
    };
    let counterfactual = Counterfactual { image, check };
    verdict.add(None, counterfactual.quorum());
    for topic in image.topics.values() {
        for (id, partition) in topic.iter() {
            let effect = counterfactual.partition(topic, partition);
            verdict.add(Some((Arc::clone(&topic.name), id.partition)), effect);
        }
    }
    verdict
}

struct Counterfactual<'a> {
    image: &'a Image,
    check: &'a RestartCheck<'a>,
}

impl Counterfactual<'_> {
    fn stops(&self, broker: BrokerId) -> bool {
        self.check.brokers.contains(&broker)
    }

    /// Whether the broker works on while the others are stopped.
    fn remains(&self, broker: BrokerId) -> bool {
        !self.stops(broker)
            && !self.check.doubtful.contains(&broker)
            && self.image.is_wanted_as_leader(broker)
    }

    fn quorum(&self) -> Effect {
        let voters = self.check.voters;
        let stopping = voters.iter().filter(|voter| self.stops(**voter)).count();
        let left = voters.iter().filter(|voter| self.remains(**voter)).count();
        if stopping == 0 || left > voters.len() / 2 {
            return Effect::None;
        }
        let no_spare = voters.len() <= VOTERS_WITHOUT_SPARE_MAX;
        if no_spare && stopping == 1 && left + stopping == voters.len() {
            return Effect::Accepted(AcceptedRisk::QuorumNeedsEveryVoter);
        }
        Effect::Blocked(RestartBlocker::QuorumLoss)
    }

    fn partition(&self, topic: &TopicImage, partition: &PartitionImage) -> Effect {
        if !partition.isr.iter().any(|member| self.stops(*member)) {
            return Effect::None;
        }
        let replicas = partition.replication_factor();
        let min_insync = self
            .image
            .min_insync_replicas(topic, self.check.min_insync_replicas_default)
            .min(replicas)
            .max(1);
        let left = partition.isr.iter().filter(|id| self.remains(**id)).count();
        if left >= min_insync {
            return Effect::None;
        }
        if replicas == 1 {
            return Effect::Accepted(AcceptedRisk::SingleReplica);
        }
        if self.awaits_replica(partition) {
            return Effect::Blocked(RestartBlocker::NotCaughtUp);
        }
        if left == 0 {
            return Effect::Blocked(RestartBlocker::Unavailable);
        }
        let all_others_in_sync = left + 1 >= replicas;
        if min_insync == replicas && all_others_in_sync {
            return Effect::Accepted(AcceptedRisk::MinIsrNeedsEveryReplica);
        }
        Effect::Blocked(RestartBlocker::BelowMinIsr)
    }

    fn awaits_replica(&self, partition: &PartitionImage) -> bool {
        let mut replicas = partition.replicas.iter();
        replicas.any(|id| {
            let works = self.remains(*id) && partition.health(*id) != ReplicaHealth::Offline;
            works && !partition.isr.contains(id)
        })
    }
}
