//! Every image is consistent in itself (ISR and ELR within the replicas, the leader in the ISR …),
//! and what the controller may elect from is never more than what the leader waits for.

use broker_core::BrokerId;
use broker_core::metadata::{Image, lint};

use super::Checker;
use crate::node::Broker;
use crate::trace::Micros;

impl Checker {
    pub(super) fn lint(&mut self, now: Micros, image: &Image) {
        if let Some(violation) = lint(image).first() {
            self.violate(now, "metadata is consistent", violation.to_string());
        }
    }

    /// The controller's ISR and ELR lie within the leader's maximal ISR, where the leader can
    /// advance its high watermark.
    pub(crate) fn check_maximal_isr(&mut self, now: Micros, image: &Image, broker: &Broker) {
        let Some(process) = &broker.process else {
            return;
        };
        for (id, hosted) in &process.hosted {
            let Some(state) = image
                .partition(*id)
                .filter(|state| hosted.leads(broker.id(), state))
            else {
                continue;
            };
            let Some(maximal) = hosted.replica.maximal_isr() else {
                continue;
            };
            let missing: Vec<BrokerId> = state
                .isr
                .iter()
                .chain(&state.elr)
                .filter(|member| !maximal.contains(member))
                .copied()
                .collect();
            if !missing.is_empty() {
                let found = format!(
                    "{id}: leader {} waits for {maximal:?}; the ISR is {:?}, the ELR {:?}",
                    broker.id(),
                    state.isr,
                    state.elr
                );
                self.violate(
                    now,
                    "ISR and ELR lie within the leader's maximal ISR",
                    found,
                );
            }
        }
    }
}
