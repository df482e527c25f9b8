//! The table of supported APIs: key, versions and first flexible version.
//!
//! The floors are those that old clients look for, the maxima those of Kafka 4.1: clients infer
//! a broker's release from this table, so it is kept that of one release.

use std::ops::RangeInclusive;

macro_rules! apis {
    ($($name:ident = $key:literal, $versions:expr, flexible $flexible:literal;)*) => {
        /// An API that the broker serves; the value is its key on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        impl ApiKey {
            /// All APIs by ascending key.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The API with this key, if it is served.
            pub fn from_key(key: i16) -> Option<Self> {
                Some(match key {
                    $($key => Self::$name,)*
                    _ => return None,
                })
            }

            /// Name of the API in Kafka's documentation and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Versions to advertise. Of Produce, 0 to 2 are advertised for the sake of old
            /// librdkafka (KAFKA-18659), but only versions from
            /// [`crate::message::produce::VERSION_MIN`] on can be served.
            pub const fn versions(self) -> RangeInclusive<i16> {
                match self {
                    $(Self::$name => $versions,)*
                }
            }

            /// First version whose request and response have the flexible form (KIP-482).
            pub const fn first_flexible_version(self) -> i16 {
                match self {
                    $(Self::$name => $flexible,)*
                }
            }
        }
    };
}

apis! {
    Produce = 0, 0..=13, flexible 9;
    Fetch = 1, 4..=18, flexible 12;
    ListOffsets = 2, 1..=10, flexible 6;
    Metadata = 3, 0..=13, flexible 9;
    OffsetCommit = 8, 2..=9, flexible 8;
    OffsetFetch = 9, 1..=9, flexible 6;
    FindCoordinator = 10, 0..=6, flexible 3;
    JoinGroup = 11, 0..=9, flexible 6;
    Heartbeat = 12, 0..=4, flexible 4;
    LeaveGroup = 13, 0..=5, flexible 4;
    SyncGroup = 14, 0..=5, flexible 4;
    DescribeGroups = 15, 0..=6, flexible 5;
    ListGroups = 16, 0..=5, flexible 3;
    ApiVersions = 18, 0..=4, flexible 3;
    CreateTopics = 19, 2..=7, flexible 5;
    DeleteTopics = 20, 1..=6, flexible 4;
    DeleteRecords = 21, 0..=2, flexible 2;
    InitProducerId = 22, 0..=5, flexible 2;
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    AddPartitionsToTxn = 24, 0..=5, flexible 3;
    AddOffsetsToTxn = 25, 0..=4, flexible 3;
    EndTxn = 26, 0..=5, flexible 3;
    WriteTxnMarkers = 27, 1..=1, flexible 1;
    TxnOffsetCommit = 28, 0..=5, flexible 3;
    DescribeAcls = 29, 1..=3, flexible 2;
    CreateAcls = 30, 1..=3, flexible 2;
    DeleteAcls = 31, 1..=3, flexible 2;
    DescribeConfigs = 32, 1..=4, flexible 4;
    AlterConfigs = 33, 0..=2, flexible 2;
    AlterReplicaLogDirs = 34, 1..=2, flexible 2;
    DescribeLogDirs = 35, 1..=4, flexible 2;
    CreatePartitions = 37, 0..=3, flexible 2;
    DeleteGroups = 42, 0..=2, flexible 2;
    ElectLeaders = 43, 0..=2, flexible 2;
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    AlterPartitionReassignments = 45, 0..=1, flexible 0;
    ListPartitionReassignments = 46, 0..=0, flexible 0;
    OffsetDelete = 47, 0..=0, flexible 1;
    DescribeClientQuotas = 48, 0..=1, flexible 1;
    AlterClientQuotas = 49, 0..=1, flexible 1;
    DescribeUserScramCredentials = 50, 0..=0, flexible 0;
    DescribeQuorum = 55, 0..=2, flexible 0;
    UpdateFeatures = 57, 0..=2, flexible 0;
    DescribeCluster = 60, 0..=2, flexible 0;
    DescribeProducers = 61, 0..=0, flexible 0;
    UnregisterBroker = 64, 0..=0, flexible 0;
    DescribeTransactions = 65, 0..=0, flexible 0;
    ListTransactions = 66, 0..=2, flexible 0;
    ConsumerGroupHeartbeat = 68, 0..=1, flexible 0;
    ConsumerGroupDescribe = 69, 0..=1, flexible 0;
    DescribeTopicPartitions = 75, 0..=0, flexible 0;
    AddRaftVoter = 80, 0..=0, flexible 0;
    RemoveRaftVoter = 81, 0..=0, flexible 0;
}

impl ApiKey {
    /// Key on the wire.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// Whether the version is one of [`ApiKey::versions`].
    pub fn supports(self, version: i16) -> bool {
        self.versions().contains(&version)
    }

    /// Version of the header that precedes requests of this version.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if version >= self.first_flexible_version() {
            2
        } else {
            1
        }
    }

    /// Version of the header that precedes responses of this version. That of ApiVersions is
    /// always 0, because the client does not know yet which versions the broker understands
    /// (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if version >= self.first_flexible_version() => 1,
            _ => 0,
        }
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_and_ascend() {
        assert!(ApiKey::ALL.is_sorted());
        for &api in ApiKey::ALL {
            assert_eq!(ApiKey::from_key(api.key()), Some(api));
        }
        assert_eq!(ApiKey::from_key(4), None);
    }

    #[test]
    fn versions_that_old_librdkafka_looks_for_are_there() {
        let exact = [
            (ApiKey::Produce, 0),
            (ApiKey::Produce, 3),
            (ApiKey::Produce, 7),
            (ApiKey::Fetch, 4),
            (ApiKey::Fetch, 10),
            (ApiKey::ListOffsets, 1),
            (ApiKey::OffsetCommit, 2),
            (ApiKey::OffsetFetch, 1),
            (ApiKey::FindCoordinator, 0),
            (ApiKey::JoinGroup, 0),
            (ApiKey::SyncGroup, 0),
            (ApiKey::Heartbeat, 0),
            (ApiKey::LeaveGroup, 0),
            (ApiKey::InitProducerId, 0),
            (ApiKey::OffsetForLeaderEpoch, 2),
        ];
        for (api, version) in exact {
            assert!(api.supports(version), "{api} v{version}");
        }
    }
}
