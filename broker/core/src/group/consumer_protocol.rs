//! What consumers of the classic protocol say to each other: Kafka's `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, of which every version begins alike.
//!
//! ```text
//! subscription: version i16, topic count i32, for each: name; user data; owned partitions (v1); ...
//! assignment:   version i16, partitions, user data
//! partitions:   topic count i32, for each: name, partition count i32, for each: i32
//! name: length i16, UTF-8          user data: length i32 (-1: none), bytes
//! ```

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::record::Opaque;
use crate::PartitionIndex;

/// Partitions by the names of their topics.
pub(super) type NamedPartitions<'a> = Vec<(&'a str, Vec<PartitionIndex>)>;

/// What a consumer wants, and what it has.
pub(super) struct Subscription<'a> {
    pub(super) topics: BTreeSet<&'a str>,
    pub(super) owned: NamedPartitions<'a>,
}

impl<'a> Subscription<'a> {
    /// `None` for what is no subscription.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let version = reader.version()?;
        let mut topics = BTreeSet::new();
        for _ in 0..reader.count()? {
            topics.insert(reader.name()?);
        }
        let has_owned = version >= 1 && reader.skip_user_data().is_some();
        let owned = match has_owned {
            true => reader.partitions()?,
            false => Vec::new(),
        };
        Some(Self { topics, owned })
    }

    pub(super) fn topic_names(&self) -> Vec<String> {
        self.topics.iter().map(ToString::to_string).collect()
    }
}

/// The partitions of an assignment; `None` for what is none.
pub(super) fn read_assignment(bytes: &[u8]) -> Option<NamedPartitions<'_>> {
    let mut reader = Reader(bytes);
    reader.version()?;
    reader.partitions()
}

/// An assignment that every version of consumers reads.
pub(super) fn write_assignment(partitions: &[(&str, Vec<PartitionIndex>)]) -> Opaque {
    let len = |len: usize| i32::try_from(len).unwrap_or(i32::MAX).to_be_bytes();
    let mut bytes = alloc::vec![0, 0];
    bytes.extend(len(partitions.len()));
    for (name, indexes) in partitions {
        bytes.extend(i16::try_from(name.len()).unwrap_or(i16::MAX).to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(len(indexes.len()));
        bytes.extend(indexes.iter().flat_map(|index| index.0.to_be_bytes()));
    }
    bytes.extend((-1_i32).to_be_bytes());
    bytes.into()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn version(&mut self) -> Option<i16> {
        self.array()
            .map(i16::from_be_bytes)
            .filter(|version| *version >= 0)
    }

    fn count(&mut self) -> Option<u32> {
        u32::try_from(i32::from_be_bytes(self.array()?)).ok()
    }

    fn name(&mut self) -> Option<&'a str> {
        let len = usize::try_from(i16::from_be_bytes(self.array()?)).ok()?;
        core::str::from_utf8(self.take(len)?).ok()
    }

    fn skip_user_data(&mut self) -> Option<()> {
        let len = i32::from_be_bytes(self.array()?);
        self.take(usize::try_from(len).unwrap_or(0)).map(|_| ())
    }

    fn partitions(&mut self) -> Option<NamedPartitions<'a>> {
        let mut partitions = Vec::new();
        for _ in 0..self.count()? {
            let name = self.name()?;
            let mut indexes = Vec::new();
            for _ in 0..self.count()? {
                indexes.push(PartitionIndex(i32::from_be_bytes(self.array()?)));
            }
            partitions.push((name, indexes));
        }
        Some(partitions)
    }
}

#[cfg(test)]
pub(super) mod tests {
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

    fn topics(bytes: &[u8]) -> Option<BTreeSet<&str>> {
        Subscription::read(bytes).map(|subscription| subscription.topics)
    }

    #[test]
    fn topics_are_read_from_a_subscription() {
        let bytes = subscription(&["a", "orders"]);
        assert_eq!(topics(&bytes), Some(BTreeSet::from(["a", "orders"])));
        assert_eq!(topics(&subscription(&[])), Some(BTreeSet::new()));
    }

    #[test]
    fn owned_partitions_are_read_from_a_subscription() {
        let mut bytes = subscription(&["a"]);
        bytes.truncate(bytes.len() - 4);
        let assignment = write_assignment(&[("a", alloc::vec![PartitionIndex(7)])]);
        bytes.extend(&assignment[2..assignment.len() - 4]);
        let read = Subscription::read(&bytes).unwrap();
        assert_eq!(read.owned, [("a", alloc::vec![PartitionIndex(7)])]);
        assert_eq!(read_assignment(&assignment), Some(read.owned));
    }

    #[test]
    fn what_is_no_subscription_is_not_read_as_one() {
        let bytes = subscription(&["a", "orders"]);
        for end in 0..17 {
            assert_eq!(topics(&bytes[..end]), None, "{end} bytes");
        }
        let many = [0, 1, 127, 255, 255, 255, 0, 1, b'a'];
        assert_eq!(topics(&many), None);
        assert_eq!(topics(&[0, 1, 255, 255, 255, 255]), None);
        assert_eq!(topics(&[255, 255, 0, 0, 0, 0]), None);
    }
}
