//! Whoever leads has everything committed, and so has whoever may be elected: the members of ISR
//! and ELR. What is committed has `min.insync.replicas` copies, lossy failures aside.

use broker_core::metadata::Image;
use broker_core::{BrokerId, TopicPartition};

use super::Checker;
use crate::node::{Broker, Hosted};
use crate::trace::Micros;

impl Checker {
    /// A broker begins to lead.
    pub(crate) fn became_leader(&mut self, now: Micros, broker: BrokerId, hosted: &mut Hosted) {
        let account = self.accounts.entry(hosted.id).or_default();
        let end = hosted.log.end_offset();
        if end < account.end() {
            if account.may_lose(end) {
                account.give_up(end);
            } else {
                let found = format!(
                    "broker {broker} leads {} with a log up to {end}; {} is committed",
                    hosted.id,
                    account.end()
                );
                self.violate(now, "a leader has all that is committed", found);
                return;
            }
        }
        let account = self.accounts.entry(hosted.id).or_default();
        // One that leads after others were elected uncleanly takes its high watermark along.
        let committed = if account.gave_up {
            account.end().max(hosted.replica.high_watermark())
        } else {
            account.end()
        };
        self.compare(now, broker, hosted, committed.min(end));
    }

    /// Looks at the partitions with news since the last time.
    pub(crate) fn look(&mut self, now: Micros, image: &Image, brokers: &[Broker]) {
        while let Some(id) = self.touched.pop_first() {
            self.check_copies(now, id, image, brokers);
            self.check_candidates(now, id, image, brokers);
        }
    }

    fn check_candidates(
        &mut self,
        now: Micros,
        id: TopicPartition,
        image: &Image,
        brokers: &[Broker],
    ) {
        let (Some(state), account) = (image.partition(id), self.account(id)) else {
            return;
        };
        if account.gave_up {
            return;
        }
        let committed = account.end();
        for member in state.isr.iter().chain(&state.elr) {
            let Some(process) = &brokers[member.0 as usize].process else {
                continue;
            };
            let registered = image.brokers.get(member).map(|broker| broker.epoch);
            let current =
                process.registered_epoch().is_some() && process.registered_epoch() == registered;
            let Some(hosted) = process
                .hosted
                .get(&id)
                .filter(|hosted| current && !hosted.log.is_failed())
            else {
                continue;
            };
            let end = hosted.log.end_offset();
            if end < committed && !self.account(id).may_lose(end) {
                let found = format!(
                    "{id} has ISR {:?} and ELR {:?}; the log of broker {member} ends at {end}, {committed} is committed",
                    state.isr, state.elr
                );
                self.violate(
                    now,
                    "every member of ISR and ELR has all that is committed",
                    found,
                );
                return;
            }
        }
    }

    fn check_copies(&mut self, now: Micros, id: TopicPartition, image: &Image, brokers: &[Broker]) {
        let account = self.account(id);
        let Some(wanted) = account.to_count.take().filter(|_| !account.gave_up) else {
            return;
        };
        let end = account.end();
        let newest = account.committed.last().map_or(0, |record| record.value);
        let lossy = account.lossy_since(account.sent_at(newest));
        let has_all = |broker: &&Broker| {
            let log_end = match &broker.process {
                Some(process) => process.log_end(id),
                None => broker.ends_kept.get(&id).copied(),
            };
            log_end >= Some(end)
        };
        let replicas = image.partition(id).map_or(0, |state| state.replicas.len());
        let copies = brokers.iter().filter(has_all).count();
        // Nobody knows what they have before they are back.
        let powerless = brokers
            .iter()
            .filter(|broker| self.is_powerless(broker.id()));
        if copies + lossy + powerless.count() < wanted.min(replicas) {
            let found = format!("{id} is committed up to {end} with {copies} of {wanted} copies");
            self.violate(
                now,
                "what is committed has min.insync.replicas copies",
                found,
            );
        }
    }
}
