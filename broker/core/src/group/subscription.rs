//! The topics that the members of a group consume, which keep their offsets. All else that members of
//! classic groups say is opaque to the coordinator.

use alloc::collections::BTreeSet;

use super::consumer::ConsumerGroup;
use super::consumer_protocol::Subscription;
use super::membership::{CONSUMER, Group, State};

/// Which topics the members of a group consume.
pub(super) enum Subscriptions<'a> {
    Of(BTreeSet<&'a str>),
    OfConsumers(&'a ConsumerGroup),
    /// There are members, and what they consume is not known: other protocols than that of consumers,
    /// a join phase, what can't be read.
    Unknown,
}

impl Subscriptions<'_> {
    /// Whether a member may work on `topic`.
    pub(super) fn may_have(&self, topic: &str) -> bool {
        match self {
            Self::Of(topics) => topics.contains(topic),
            Self::OfConsumers(consumer) => consumer.subscribes_to(topic),
            Self::Unknown => true,
        }
    }
}

impl Group {
    /// Whether the members are consumers, whose subscriptions can be read.
    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
    }

    pub(super) fn subscriptions(&self) -> Subscriptions<'_> {
        if let Some(consumer) = &self.consumer {
            return Subscriptions::OfConsumers(consumer);
        }
        if self.members.is_empty() {
            return Subscriptions::Of(BTreeSet::new());
        }
        self.subscribed_topics()
            .map_or(Subscriptions::Unknown, Subscriptions::Of)
    }

    fn subscribed_topics(&self) -> Option<BTreeSet<&str>> {
        if self.state != State::Stable || !self.uses_consumer_protocol() {
            return None;
        }
        let protocol = self.protocol.as_deref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let offered = member.protocols.iter().find(|p| p.name == protocol)?;
            topics.extend(Subscription::read(&offered.metadata)?.topics);
        }
        Some(topics)
    }
}
