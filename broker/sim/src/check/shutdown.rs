//! A broker that is told that it may stop leads nothing that another replica could lead.

use broker_core::BrokerId;
use broker_core::metadata::Image;

use super::Checker;
use crate::trace::Micros;

impl Checker {
    /// A broker that asked for it may stop.
    pub(crate) fn may_stop(&mut self, now: Micros, broker: BrokerId, image: &Image) {
        let could_lead = |id: &BrokerId| *id != broker && image.is_active(*id);
        let left = image.partitions().find_map(|(id, state)| {
            let successor = state.isr.iter().find(|member| could_lead(member))?;
            (state.leader == Some(broker)).then_some((id, *successor))
        });
        if let Some((id, successor)) = left {
            let found = format!("broker {broker} may stop and leads {id}; {successor} could lead");
            self.violate(
                now,
                "who may stop has handed over what others can lead",
                found,
            );
        }
    }
}
