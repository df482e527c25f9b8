//! Where unclean elections are allowed, any live replica leads; and a leader reports the committed
//! records that it was told of and does not have.

use broker_core::BrokerId;
use broker_core::metadata::Image;

use super::Checker;
use super::election::allows_unclean;
use crate::node::Hosted;
use crate::trace::Micros;

impl Checker {
    pub(super) fn check_unclean_election(&mut self, now: Micros, image: &Image) {
        let mut partitions = image.partitions();
        let waits = partitions.find_map(|(id, state)| {
            let mut replicas = state.replicas.iter();
            let can_lead = |id: &&BrokerId| image.is_active(**id) && state.can_lead(**id);
            let ready = *replicas.find(can_lead)?;
            (state.leader.is_none() && allows_unclean(image, id)).then_some((id, ready))
        });
        if let Some((id, ready)) = waits {
            let found = format!("{id} has no leader; broker {ready} has a replica");
            self.violate(
                now,
                "where unclean elections are allowed, any live replica leads",
                found,
            );
        }
    }

    /// A replica leads from now on, and says how many committed records it is `missing`.
    pub(crate) fn reports_missing(
        &mut self,
        now: Micros,
        broker: BrokerId,
        hosted: &Hosted,
        missing: u64,
    ) {
        let (end, told) = (hosted.log.end_offset(), hosted.told);
        if missing < end.records_until(told) {
            let found = format!(
                "broker {broker} leads {} up to {end} and reports {missing} records; {told} was committed",
                hosted.id
            );
            self.violate(now, "what an unclean election gives up is reported", found);
        }
    }
}
