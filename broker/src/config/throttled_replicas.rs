//! The value of `leader.replication.throttled.replicas` and its counterpart for followers (KIP-73).

use std::collections::BTreeSet;
use std::sync::Arc;

use broker_core::{BrokerId, PartitionIndex};

/// Replicas of a topic: none, all (`*`), or a list `partition:broker,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThrottledReplicas {
    All,
    Listed(Arc<BTreeSet<(PartitionIndex, BrokerId)>>),
}

impl ThrottledReplicas {
    /// Reads the value of the setting.
    ///
    /// # Errors
    /// What is allowed instead.
    pub fn parse(value: &str) -> Result<Self, String> {
        if value.trim() == "*" {
            return Ok(Self::All);
        }
        let items = value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        let replicas: Option<BTreeSet<_>> = items.map(replica).collect();
        replicas
            .map(|replicas| Self::Listed(Arc::new(replicas)))
            .ok_or_else(|| "must be * or a list of partition:broker".to_owned())
    }

    /// No replica.
    #[must_use]
    pub fn none() -> Self {
        Self::Listed(Arc::default())
    }

    /// Whether the replica of `partition` on `broker` is one of them.
    #[must_use]
    pub fn contains(&self, partition: PartitionIndex, broker: BrokerId) -> bool {
        match self {
            Self::All => true,
            Self::Listed(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

fn replica(item: &str) -> Option<(PartitionIndex, BrokerId)> {
    let (partition, broker) = item.split_once(':')?;
    let number = |digits: &str| digits.parse().ok().filter(|number: &i32| *number >= 0);
    Some((
        PartitionIndex(number(partition)?),
        BrokerId(number(broker)?),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_replicas_and_a_star_all_of_them() {
        let contains = |value: &str, partition, broker| {
            let replicas = ThrottledReplicas::parse(value).unwrap();
            replicas.contains(PartitionIndex(partition), BrokerId(broker))
        };
        assert!(contains("0:1, 2:3", 2, 3));
        assert!(!contains("0:1, 2:3", 0, 3));
        assert!(contains("*", 7, 8));
        assert!(!contains("", 0, 0));
        for value in ["1", "1:", ":1", "a:1", "0:-1", "0:1,*", "0:1;2:3"] {
            assert!(ThrottledReplicas::parse(value).is_err(), "{value:?}");
        }
    }
}
