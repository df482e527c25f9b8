//! One leader for each leader epoch, elected from ISR or ELR; epochs rise.

use broker_core::metadata::{Image, PartitionImage};
use broker_core::{BrokerId, TopicPartition};

use super::Checker;
use crate::trace::Micros;

impl Checker {
    /// The controller says so, of elections that others in the same decision may have undone.
    pub(crate) fn elected_uncleanly(&mut self, images: [&Image; 2], partitions: &[TopicPartition]) {
        for id in partitions {
            if images.iter().any(|image| allows_unclean(image, *id)) {
                self.account(*id).gave_up = true;
            }
        }
    }

    pub(super) fn elected(
        &mut self,
        now: Micros,
        image: &Image,
        id: TopicPartition,
        old: Option<&PartitionImage>,
        new: &PartitionImage,
    ) {
        if let Some(leader) = new.leader {
            let known = *self
                .account(id)
                .leaders
                .entry(new.leader_epoch)
                .or_insert(leader);
            if known != leader {
                let found = format!("{id}: {known} and {leader} in epoch {}", new.leader_epoch);
                self.violate(now, "one leader for each leader epoch", found);
            }
        }
        let Some(old) = old else {
            return;
        };
        if new.partition_epoch <= old.partition_epoch || new.leader_epoch < old.leader_epoch {
            let found = format!("{id} goes from {old:?} to {new:?}");
            self.violate(now, "epochs rise with every change", found);
        }
        self.check_candidate(now, image, id, old, new);
    }

    fn check_candidate(
        &mut self,
        now: Micros,
        image: &Image,
        id: TopicPartition,
        old: &PartitionImage,
        new: &PartitionImage,
    ) {
        let Some(leader) = new.leader.filter(|leader| Some(*leader) != old.leader) else {
            return;
        };
        let eligible = old.isr.contains(&leader) || old.elr.contains(&leader);
        // The leader's own proposal may bring in its successor when it is shutting down.
        let handed_over = old
            .leader
            .and_then(|old| image.brokers.get(&old))
            .is_some_and(|old| old.draining);
        if eligible {
            return;
        }
        if allows_unclean(image, id) {
            self.account(id).gave_up = true;
            return;
        }
        // A batch of the controller's may hold several changes: it may have entered the ISR between.
        let several = new.partition_epoch.0 > old.partition_epoch.0 + 1;
        // So may the one that completes a reassignment and takes the leader away.
        let moved = old.leader.is_some_and(|old| !new.has_replica(old));
        if handed_over || moved || several {
            return;
        }
        // The one who starts again without its data is a candidate no more.
        let lost = |id: &BrokerId| image.brokers.get(id).is_none_or(|broker| broker.fenced);
        if !old.isr.is_empty() || !old.elr.iter().all(lost) {
            let found = format!(
                "{id}: broker {leader}, ISR {:?}, ELR {:?}",
                old.isr, old.elr
            );
            self.violate(now, "leaders are elected from ISR and ELR", found);
        }
    }
}

pub(super) fn allows_unclean(image: &Image, id: TopicPartition) -> bool {
    let topic = image.topics.get(&id.topic);
    let setting =
        topic.and_then(|topic| image.topic_config(topic, "unclean.leader.election.enable"));
    setting == Some("true")
}
