//! Brokers that come and go, in terms of Kubernetes: whose process runs, what becomes of volumes.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use klamm_crds::DeletionPolicy;

use super::{Action, Judged};
use crate::allocation::{Allocation, Broker};
use crate::naming;
use crate::observed::Observed;
use crate::resources::{self, Object, unless_applied};
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
        let mut membership = Self {
            leaving: scale::leaving(&valid.pools, &allocation.brokers),
            processes: scale::processes(&valid.name, &allocation.brokers, observed),
            gone: BTreeSet::new(),
            departed: BTreeSet::new(),
        };
        let situation = membership.situation(valid, allocation, observed);
        let (gone, departed) = (scale::gone(&situation), scale::departed(&situation));
        membership.gone = gone;
        membership.departed = departed;
        membership
    }

    pub(super) fn situation<'a>(
        &'a self,
        valid: &Validated,
        allocation: &'a Allocation,
        observed: &'a Observed,
    ) -> Situation<'a> {
        Situation {
            brokers: &allocation.brokers,
            leaving: &self.leaving,
            processes: &self.processes,
            admin: &observed.admin,
            drains: &observed.answers.drains,
            voters_recorded: &allocation.voters,
            voters: valid.voters,
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
        if valid.volume_policy == DeletionPolicy::Retain {
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
        Scale::Settled | Scale::Waiting { .. } | Scale::Ask(_) => return None,
    };
    let broker = allocation.brokers.iter().find(|broker| broker.id == id)?;
    let name = Some(naming::stateful_set(&valid.name, &broker.pool, id));
    let mut sets = observed.stateful_sets.iter();
    let set = sets.find(|set| set.metadata.name == name)?;
    Judged::any_version(&set.metadata).map(Action::Stop)
}
