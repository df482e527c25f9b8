//! Cluster id and the brokers' zones never change once they are recorded, and no id is given twice.

use std::collections::{BTreeMap, BTreeSet};

use klamm_crds::KafkaClusterStatus;

use super::Verdict;

/// What was recorded so far.
#[derive(Debug, Default)]
pub(super) struct Identity {
    cluster_id: Option<String>,
    zones: BTreeMap<i32, Option<String>>,
    gone: BTreeSet<i32>,
}

impl Identity {
    pub(super) fn of_status(&mut self, status: Option<&KafkaClusterStatus>) -> Verdict {
        let Some(status) = status else {
            return Ok(());
        };
        if self.cluster_id.is_some() && self.cluster_id != status.cluster_id {
            return Err(format!(
                "{:?} becomes {:?}",
                self.cluster_id, status.cluster_id
            ));
        }
        self.cluster_id.clone_from(&status.cluster_id);
        let present: BTreeSet<i32> = status.brokers.iter().map(|broker| broker.id).collect();
        if let Some(id) = present.intersection(&self.gone).next() {
            return Err(format!("the id {id} is given again"));
        }
        for broker in &status.brokers {
            let zone = self
                .zones
                .entry(broker.id)
                .or_insert_with(|| broker.zone.clone());
            if *zone != broker.zone {
                return Err(format!("broker {} moves to {:?}", broker.id, broker.zone));
            }
            if broker.id >= status.next_broker_id {
                return Err(format!("the id {} would be given again", broker.id));
            }
        }
        let known = self.zones.keys().copied();
        self.gone.extend(known.filter(|id| !present.contains(id)));
        Ok(())
    }
}
