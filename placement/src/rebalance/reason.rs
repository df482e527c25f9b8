//! Why replicas move and why some stay, for people.

use std::fmt;

/// Why a replica moves, or another one becomes the preferred leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The rack of `from` has more replicas of the partition than that of `to`.
    Racks { from: i32, to: i32 },
    /// `from` has `replicas.0` of all topics, `to` has `replicas.1`.
    Replicas {
        from: i32,
        to: i32,
        replicas: (usize, usize),
    },
    /// Its logs are `bytes.0` on `from` and `bytes.1` on `to`.
    Bytes {
        from: i32,
        to: i32,
        bytes: (u64, u64),
    },
    /// `from` is the preferred leader of `leaders.0` partitions, `to` of `leaders.1`. Where a chain of
    /// partitions is needed the two are its ends.
    Leaders {
        from: i32,
        to: i32,
        leaders: (usize, usize),
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Racks { from, to } => write!(
                f,
                "the rack of broker {from} has more of its replicas than that of broker {to}"
            ),
            Self::Replicas { from, to, replicas } => write!(
                f,
                "broker {from} has {} replicas, broker {to} has {}",
                replicas.0, replicas.1
            ),
            Self::Bytes { from, to, bytes } => write!(
                f,
                "broker {from} has {} bytes, broker {to} has {}",
                bytes.0, bytes.1
            ),
            Self::Leaders { from, to, leaders } => write!(
                f,
                "broker {from} is to lead {} partitions, broker {to} {}",
                leaders.0, leaders.1
            ),
        }
    }
}

/// A broker that keeps replicas although another one has at least two fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    pub broker: i32,
    pub replicas: usize,
    /// The broker with the fewest, and how many these are.
    pub fewest: (i32, usize),
    /// Of the replicas, those of pinned partitions.
    pub pinned: usize,
    /// Those of which the other broker has one as well.
    pub shared: usize,
    /// Those that would be on fewer racks, or less evenly over them.
    pub racks: usize,
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            broker,
            replicas,
            fewest,
            pinned,
            shared,
            racks,
        } = self;
        write!(
            f,
            "broker {broker} keeps {replicas} replicas and broker {} has {}: {racks} would be \
             spread worse over racks, {shared} are on both, {pinned} cannot move now",
            fewest.0, fewest.1
        )
    }
}
