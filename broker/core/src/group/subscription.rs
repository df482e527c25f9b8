//! The topics that a consumer subscribes to, read from what it says to its assignor.
//!
//! All else in a group is opaque to the coordinator. This is Kafka's `ConsumerProtocolSubscription`,
//! of which every version begins alike:
//!
//! ```text
//! version i16, topic count i32, for each: length i16, name; ...
//! ```

use alloc::collections::BTreeSet;

use super::membership::{Group, State};

/// Protocol type of consumers, the only one whose subscriptions are known.
const CONSUMER: &str = "consumer";

/// Which topics the members of a group consume.
pub(super) enum Subscriptions<'a> {
    Of(BTreeSet<&'a str>),
    /// There are members, and what they consume is not known: other protocols than that of consumers,
    /// a join phase, what can't be read.
    Unknown,
}

impl Subscriptions<'_> {
    /// Whether a member may work on `topic`.
    pub(super) fn may_have(&self, topic: &str) -> bool {
        match self {
            Self::Of(topics) => topics.contains(topic),
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
            topics.extend(read_topics(&offered.metadata)?);
        }
        Some(topics)
    }
}

fn read_topics(subscription: &[u8]) -> Option<BTreeSet<&str>> {
    let (version, rest) = subscription.split_first_chunk()?;
    let (count, mut rest) = rest.split_first_chunk()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..u32::try_from(i32::from_be_bytes(*count)).ok()? {
        let (len, after) = rest.split_first_chunk()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.insert(core::str::from_utf8(name).ok()?);
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
pub(super) mod tests {
    use alloc::vec::Vec;

    use super::*;

    pub(crate) fn subscription(topics: &[&str]) -> Vec<u8> {
        let mut bytes = alloc::vec![0, 1];
        bytes.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        // No user data, no owned partitions.
        bytes.extend([255; 4]);
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn topics_are_read_from_a_subscription() {
        let bytes = subscription(&["a", "orders"]);
        assert_eq!(read_topics(&bytes), Some(BTreeSet::from(["a", "orders"])));
        assert_eq!(read_topics(&subscription(&[])), Some(BTreeSet::new()));
    }

    #[test]
    fn what_is_no_subscription_is_not_read_as_one() {
        let bytes = subscription(&["a", "orders"]);
        for end in 0..17 {
            assert_eq!(read_topics(&bytes[..end]), None, "{end} bytes");
        }
        let many = [0, 1, 127, 255, 255, 255, 0, 1, b'a'];
        assert_eq!(read_topics(&many), None);
        assert_eq!(read_topics(&[0, 1, 255, 255, 255, 255]), None);
        assert_eq!(read_topics(&[255, 255, 0, 0, 0, 0]), None);
    }
}
