//! Newtypes for the numbers that cross a function. Raw numbers appear in wire and file formats only.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $raw);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl From<$raw> for $name {
            fn from(raw: $raw) -> Self {
                Self(raw)
            }
        }
    };
}

id!(
    /// A broker's `node.id`.
    BrokerId(i32)
);
id!(
    /// Position of a record in a partition. As an end, the offset after the last record.
    Offset(i64)
);
id!(
    /// Raised at every leader election of a partition (KIP-101).
    LeaderEpoch(i32)
);
id!(
    /// Raised at every change of a partition's leader, ISR or replicas (KIP-497).
    PartitionEpoch(i32)
);
id!(
    /// Raised at every registration of a broker; tells a restarted process from its predecessor.
    BrokerEpoch(i64)
);
id!(
    /// Index of a partition within its topic.
    PartitionIndex(i32)
);
id!(
    /// Id of an idempotent or transactional producer (KIP-98).
    ProducerId(i64)
);
id!(
    /// Raised to fence earlier incarnations of a producer id.
    ProducerEpoch(i16)
);
id!(
    /// Leader epoch of the `__transaction_state` partition whose leader decides a transaction.
    CoordinatorEpoch(i32)
);

impl Offset {
    /// The offset `count` records further.
    #[must_use]
    pub const fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }

    /// Number of offsets from here up to `end`, 0 when that lies before.
    #[must_use]
    pub const fn records_until(self, end: Self) -> u64 {
        let count = end.0.saturating_sub(self.0);
        if count > 0 { count.unsigned_abs() } else { 0 }
    }
}

impl LeaderEpoch {
    /// Stands for "no epoch known" in requests and in an empty log.
    pub const NONE: Self = Self(-1);
}

impl ProducerId {
    /// Marks batches of producers that are not idempotent.
    pub const NONE: Self = Self(-1);
}

impl ProducerEpoch {
    /// Of a producer that has none yet.
    pub const NONE: Self = Self(-1);
}

impl CoordinatorEpoch {
    /// Before any coordinator was heard of.
    pub const NONE: Self = Self(-1);
}

/// UUID of a topic; the topic's identity, while its name may be used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// Stands for "not given" on the wire.
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition by its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: TopicId,
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}
