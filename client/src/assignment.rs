//! The consumer protocol inside of JoinGroup and SyncGroup: what members ask for and get, and the
//! range assignment that a leader makes. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The partitions of a member by topic.
pub(crate) type Assignment = BTreeMap<String, Vec<i32>>;

const VERSION: i16 = 0;
const NO_USER_DATA: i32 = -1;

/// What a member asks for.
pub(crate) fn encode_subscription(topics: &[String]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        put_string(&mut bytes, topic);
    }
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

/// `None` for what is no subscription; later versions only add to it.
pub(crate) fn decode_subscription(mut bytes: Bytes) -> Option<Vec<String>> {
    bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    (0..count).map(|_| take_string(&mut bytes)).collect()
}

/// What a member gets.
pub(crate) fn encode_assignment(assignment: &Assignment) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    bytes.put_i32(assignment.len() as i32);
    for (topic, partitions) in assignment {
        put_string(&mut bytes, topic);
        bytes.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|index| bytes.put_i32(*index));
    }
    bytes.put_i32(NO_USER_DATA);
    bytes.freeze()
}

/// `None` for what is no assignment. A member without partitions may get nothing at all.
pub(crate) fn decode_assignment(mut bytes: Bytes) -> Option<Assignment> {
    if bytes.is_empty() {
        return Some(Assignment::new());
    }
    bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    let topic = |_| {
        let topic = take_string(&mut bytes)?;
        let count = bytes.try_get_i32().ok()?;
        let partitions = (0..count).map(|_| bytes.try_get_i32().ok());
        Some((topic, partitions.collect::<Option<_>>()?))
    };
    (0..count).map(topic).collect()
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

fn take_string(bytes: &mut Bytes) -> Option<String> {
    let len = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let text = (len <= bytes.len()).then(|| bytes.split_to(len))?;
    String::from_utf8(text.to_vec()).ok()
}

/// Kafka's range assignor: of each topic, the members that want it get neighbouring partitions in
/// the order of their ids, the first ones one more where it does not come out even.
pub(crate) fn assign_ranges(
    subscriptions: &BTreeMap<String, Vec<String>>,
    partitions: &BTreeMap<String, usize>,
) -> BTreeMap<String, Assignment> {
    let mut assignments: BTreeMap<String, Assignment> = subscriptions
        .keys()
        .map(|member| (member.clone(), Assignment::new()))
        .collect();
    let topics: BTreeSet<&String> = subscriptions.values().flatten().collect();
    for topic in topics {
        let wants = |(member, topics): (&String, &Vec<String>)| {
            topics.contains(topic).then(|| member.clone())
        };
        let members: Vec<_> = subscriptions.iter().filter_map(wants).collect();
        let count = partitions.get(topic).copied().unwrap_or(0);
        let mut next = 0;
        for (position, member) in members.iter().enumerate() {
            let share = count / members.len() + usize::from(position < count % members.len());
            let range = (next..next + share).map(|index| index as i32);
            if let Some(assignment) = assignments.get_mut(member).filter(|_| share > 0) {
                assignment.insert(topic.clone(), range.collect());
            }
            next += share;
        }
    }
    assignments
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscriptions() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
        let topics = prop::collection::btree_set("[a-d]", 0..4);
        let topics = topics.prop_map(|topics| topics.into_iter().collect());
        prop::collection::btree_map("[a-z]{1,3}", topics, 0..8)
    }

    proptest! {
        #[test]
        fn every_wanted_partition_has_one_member_and_shares_differ_by_one(
            subscriptions in subscriptions(), count in 0_usize..20,
        ) {
            let topics = ["a", "b", "c", "d"];
            let partitions = topics.map(|topic| (topic.to_owned(), count)).into();
            let assignments = assign_ranges(&subscriptions, &partitions);
            for topic in topics {
                let wanting = subscriptions.iter().filter(|(_, t)| t.iter().any(|t| t == topic));
                let shares: Vec<_> = wanting
                    .map(|(member, _)| assignments[member].get(topic).map_or(&[][..], Vec::as_slice))
                    .collect();
                let mut given: Vec<_> = shares.iter().copied().flatten().copied().collect();
                given.sort_unstable();
                let expected = if shares.is_empty() { 0 } else { count as i32 };
                prop_assert_eq!(given, (0..expected).collect::<Vec<_>>());
                let sizes = shares.iter().map(|share| share.len());
                let spread = sizes.clone().max().unwrap_or(0) - sizes.min().unwrap_or(0);
                prop_assert!(spread <= 1);
            }
            for (member, assignment) in &assignments {
                prop_assert!(assignment.keys().all(|topic| subscriptions[member].contains(topic)));
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(subscriptions in subscriptions(), count in 0_usize..20) {
            let partitions = [("a".to_owned(), count)].into();
            for (member, assignment) in assign_ranges(&subscriptions, &partitions) {
                prop_assert_eq!(decode_assignment(encode_assignment(&assignment)), Some(assignment));
                let topics = &subscriptions[&member];
                let decoded = decode_subscription(encode_subscription(topics));
                prop_assert_eq!(decoded.as_ref(), Some(topics));
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            decode_subscription(bytes.clone());
            decode_assignment(bytes);
        }
    }
}
