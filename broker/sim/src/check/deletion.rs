//! A log starts where clients asked for it or earlier, and nothing above is deleted; what is said to be
//! deleted stays so on every replica that counted, also after a restart.

use std::collections::BTreeMap;

use broker_core::{BrokerId, Offset, TopicPartition};

use super::Checker;
use crate::node::Hosted;
use crate::trace::Micros;

impl Checker {
    /// A client asks for the records below `before` to be deleted.
    pub(crate) fn deletion_asked(&mut self, id: TopicPartition, before: Offset) {
        let account = self.account(id);
        account.deleted_to = account.deleted_to.max(before);
    }

    /// The client is told that every log starts at `low` or later.
    pub(crate) fn deletion_confirmed(
        &mut self,
        now: Micros,
        id: TopicPartition,
        before: Offset,
        low: Offset,
    ) {
        if low < before {
            let found = format!("{id}: logs start at {low}, {before} was asked for");
            self.violate(now, "a confirmed deletion is done", found);
        }
    }

    /// The leader counts on these replicas' logs to start there.
    pub(crate) fn deletion_answered(
        &mut self,
        id: TopicPartition,
        starts: &BTreeMap<BrokerId, Offset>,
    ) {
        for (broker, start) in starts {
            let told = self.starts.entry((*broker, id)).or_default();
            *told = start.max(told).to_owned();
        }
    }

    /// The replica's log goes, and starts elsewhere from now on.
    pub(crate) fn log_starts_over(&mut self, broker: BrokerId, id: TopicPartition, at: Offset) {
        if let Some(told) = self.starts.get_mut(&(broker, id)) {
            *told = at.min(*told);
        }
    }

    pub(crate) fn log_starts_at(
        &mut self,
        now: Micros,
        broker: BrokerId,
        id: TopicPartition,
        start: Offset,
    ) {
        let told = self.starts.get(&(broker, id)).copied().unwrap_or_default();
        if start < told {
            let found = format!(
                "broker {broker} has {id} from {start}; what lies below {told} was deleted"
            );
            self.violate(now, "what is deleted stays deleted", found);
        }
    }

    pub(super) fn check_start(&mut self, now: Micros, broker: BrokerId, hosted: &Hosted) {
        let start = hosted.log.start_offset();
        self.log_starts_at(now, broker, hosted.id, start);
        let asked = self.account(hosted.id).deleted_to;
        let high_watermark = hosted.replica.high_watermark();
        let above_committed = hosted.replica.is_leader() && start > high_watermark;
        if start > asked || above_committed {
            let found = format!(
                "broker {broker} has {} from {start}, high watermark {high_watermark}; clients asked for {asked}",
                hosted.id
            );
            self.violate(
                now,
                "nothing is deleted but what is committed and clients name",
                found,
            );
        }
    }
}
