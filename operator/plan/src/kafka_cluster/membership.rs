//! Brokers that come and go, in terms of Kubernetes: whose process runs, what becomes of volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::jiff::Timestamp;
use klamm_crds::DeletionPolicy;

use super::{Action, Judged};
use crate::allocation::{Allocation, Broker};
use crate::broker_pod::{BrokerPod, PodState};
use crate::mutation::{Mutation, mutated};
use crate::naming;
use crate::observed::{Admin, Observed};
use crate::resources::{self, Object, unless_applied};
use crate::rollout::{Rollout, WaitReason};
use crate::scale::{self, Process, Scale, Situation, Step};
use crate::validate::Validated;

/// Who leaves, and how far that has come.
pub(super) struct Membership {
    leaving: BTreeSet<i32>,
    processes: BTreeMap<i32, Process>,
    /// Need no process any more.
    gone: BTreeSet<i32>,
    /// Have left nothing but a volume.
    departed: BTreeSet<i32>,
}

impl Membership {
    pub(super) fn new(valid: &Validated, allocation: &Allocation, observed: &Observed) -> Self {
        let (brokers, admin) = (&allocation.brokers, &observed.admin);
        let leaving = scale::leaving(&valid.pools, brokers);
        let processes = scale::processes(&valid.name, brokers, observed);
        Self {
            gone: scale::gone(&leaving, &processes, admin, &allocation.voters),
            departed: scale::departed(&leaving, &processes, admin),
            leaving,
            processes,
        }
    }

    pub(super) fn situation<'a>(
        &'a self,
        valid: &Validated,
        allocation: &'a Allocation,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Situation<'a> {
        Situation {
            brokers: &allocation.brokers,
            leaving: &self.leaving,
            processes: &self.processes,
            admin: &observed.admin,
            quorum: observed.quorum.as_ref(),
            drains: &observed.answers.drains,
            rebalance: valid.rebalance,
            rebalance_progress: observed.answers.rebalance.as_ref(),
            voters_recorded: &allocation.voters,
            voters: valid.voters,
            drain_stall_timeout: valid.drain_stall_timeout,
            now,
        }
    }

    /// Whether brokers and voters may change now. Restarts go first, and nothing joins or leaves in
    /// the middle of them; but what they wait for may be just that: a broker that is down and leaves,
    /// or a vote that is lost.
    pub(super) fn may_change(
        &self,
        rollout: &Rollout,
        brokers: &[BrokerPod],
        admin: &Admin,
    ) -> bool {
        let reason = match rollout {
            Rollout::UpToDate => return true,
            Rollout::Step(_) | Rollout::Ask(_) => return false,
            Rollout::Waiting(wait) => wait.reason,
        };
        let works = |broker: &&BrokerPod| broker.pod == PodState::Ready && admin.serves(broker.id);
        let leaves = |broker: &&BrokerPod| self.leaving.contains(&broker.id);
        let missing = brokers.iter().filter(leaves).any(|broker| !works(&broker));
        let rest_works = brokers
            .iter()
            .filter(|broker| !leaves(broker))
            .all(|broker| works(&broker));
        match reason {
            WaitReason::Held => true,
            WaitReason::Soaking => false,
            WaitReason::Blocked => rest_works,
            _ => rest_works && missing,
        }
    }

    /// Whether the broker shall have a process.
    pub(super) fn runs(&self, id: i32) -> bool {
        !self.gone.contains(&id)
    }

    /// Volumes that are missing or differ. Those of departed brokers are marked, so that nobody takes
    /// them for a broker's.
    pub(super) fn volumes(
        &self,
        valid: &Validated,
        allocation: &Allocation,
        observed: &Observed,
    ) -> Vec<Object> {
        let volume = |broker: &Broker| {
            let pool = valid.pools.iter().find(|pool| pool.name == broker.pool)?;
            let live = live_volume(valid, broker, observed);
            let departed = self.departed.contains(&broker.id);
            if departed && (live.is_none() || valid.volume_policy == DeletionPolicy::Delete) {
                return None;
            }
            let mut volume = resources::volume(valid, allocation, broker, &pool.storage);
            if departed {
                volume = resources::retired(volume);
            }
            unless_applied(volume, live, Object::PersistentVolumeClaim)
        };
        allocation.brokers.iter().filter_map(volume).collect()
    }

    /// Volumes of departed brokers, unless they are kept.
    pub(super) fn unwanted_volumes(
        &self,
        valid: &Validated,
        allocation: &Allocation,
        observed: &Observed,
    ) -> Vec<Judged> {
        let retains = valid.volume_policy == DeletionPolicy::Retain;
        if retains && !mutated(Mutation::IgnoreVolumePolicy) {
            return Vec::new();
        }
        let brokers = allocation.brokers.iter();
        let departed = brokers.filter(|broker| self.departed.contains(&broker.id));
        let volumes = departed.filter_map(|broker| live_volume(valid, broker, observed));
        volumes
            .filter(|volume| volume.metadata.deletion_timestamp.is_none())
            .filter_map(|volume| Judged::any_version(&volume.metadata))
            .collect()
    }
}

fn live_volume<'a>(
    valid: &Validated,
    broker: &Broker,
    observed: &'a Observed,
) -> Option<&'a PersistentVolumeClaim> {
    let name = naming::volume(&valid.name, &broker.pool, broker.id);
    let mut volumes = observed.volumes.iter();
    volumes.find(|volume| volume.metadata.name.as_deref() == Some(&name))
}

/// The step with all that it takes.
pub(super) fn action(
    scale: Scale,
    valid: &Validated,
    allocation: &Allocation,
    observed: &Observed,
) -> Option<Action> {
    let id = match scale {
        Scale::Step(Step::Stop(id)) => id,
        Scale::Step(step) => return Some(Action::Scale(step)),
        Scale::Settled | Scale::Waiting { .. } | Scale::Ask(_) | Scale::AskRebalance => {
            return None;
        }
    };
    let broker = allocation.brokers.iter().find(|broker| broker.id == id)?;
    let name = Some(naming::stateful_set(&valid.name, &broker.pool, id));
    let mut sets = observed.stateful_sets.iter();
    let set = sets.find(|set| set.metadata.name == name)?;
    Judged::any_version(&set.metadata).map(Action::Stop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::BrokerState;
    use crate::rollout::{self, Wait};
    use crate::testing;

    /// Four brokers, of which 3 leaves; these do not run.
    fn may_change(rollout: &Rollout, down: &[i32]) -> bool {
        let membership = Membership {
            leaving: BTreeSet::from([3]),
            processes: BTreeMap::new(),
            gone: BTreeSet::new(),
            departed: BTreeSet::new(),
        };
        let mut facts = testing::healthy(4);
        for id in down {
            facts.brokers.get_mut(id).unwrap().state = BrokerState::Fenced;
        }
        let broker = |id| BrokerPod {
            id,
            zone: None,
            pod: PodState::Ready,
            taken_up: None,
            ready_since: None,
            outdated: true,
        };
        let brokers: Vec<_> = (0..4).map(broker).collect();
        membership.may_change(rollout, &brokers, &Admin::Answered(facts))
    }

    #[test]
    fn what_restarts_wait_for_may_leave_and_nothing_else() {
        let waiting = |reason| {
            let message = String::new();
            Rollout::Waiting(Wait { reason, message })
        };
        let step = Rollout::Step(rollout::Step::TransferController { id: 0 });
        let cases = [
            (Rollout::UpToDate, [true, true, true]),
            (step, [false, false, false]),
            (Rollout::Ask(1), [false, false, false]),
            (waiting(WaitReason::Held), [true, true, true]),
            (waiting(WaitReason::Soaking), [false, false, false]),
            (waiting(WaitReason::Blocked), [true, true, false]),
            (waiting(WaitReason::Settling), [false, true, false]),
            (waiting(WaitReason::CatchingUp), [false, true, false]),
        ];
        for (rollout, expected) in cases {
            let down: [&[i32]; 3] = [&[], &[3], &[1, 3]];
            assert_eq!(
                down.map(|down| may_change(&rollout, down)),
                expected,
                "{rollout:?}"
            );
        }
    }
}
