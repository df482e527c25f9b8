//! Which partition a record goes to.

use std::collections::BTreeMap;

/// Chooses partitions: what the record names, else by the hash of its key as Kafka's Java client
/// does, else one partition after the other, a batch each (KIP-480).
#[derive(Debug, Default)]
pub struct Partitioner {
    /// Position in the list of led partitions, by topic.
    sticky: BTreeMap<String, usize>,
}

impl Partitioner {
    /// `led` are the partitions with a leader: only a record without a key may avoid the others.
    /// `None` when there is none to choose from.
    pub fn choose(
        &self,
        topic: &str,
        explicit: Option<i32>,
        key: Option<&[u8]>,
        partitions: i32,
        led: &[i32],
    ) -> Option<i32> {
        if explicit.is_some() {
            return explicit;
        }
        match key {
            Some(_) if partitions <= 0 => None,
            // Kafka's `toPositive`: the sign is cut off.
            Some(key) => Some((murmur2(key) & i32::MAX) % partitions),
            None => {
                let turn = self.sticky.get(topic).copied().unwrap_or(0);
                led.get(turn % led.len().max(1)).copied()
            }
        }
    }

    /// A batch of `topic` is complete: records without a key go to the next partition.
    pub fn batch_complete(&mut self, topic: &str) {
        let turn = self.sticky.entry(topic.to_owned()).or_default();
        *turn = turn.wrapping_add(1);
    }
}

/// Kafka's variant of MurmurHash2, 32 bits.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        let word = (word ^ (word >> R)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let tail = rest
            .iter()
            .rev()
            .fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `UtilsTest.testMurmur2` of Apache Kafka.
    #[test]
    fn hashes_are_those_of_the_java_client() {
        for (bytes, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            assert_eq!(murmur2(bytes.as_bytes()), hash, "{bytes}");
        }
        assert_eq!(murmur2(b"abc"), 479_470_107);
    }

    #[test]
    fn an_explicit_partition_wins_over_a_key_and_a_key_over_turns() {
        let mut partitioner = Partitioner::default();
        let key = Some(&b"foobar"[..]);
        let by_key = (-790_332_482_i32 & i32::MAX) % 6;
        assert_eq!(partitioner.choose("t", Some(4), key, 6, &[]), Some(4));
        assert_eq!(partitioner.choose("t", None, key, 6, &[0]), Some(by_key));
        assert_eq!(partitioner.choose("t", None, None, 6, &[]), None);
        let mut turns = Vec::new();
        for _ in 0..4 {
            let choose = |p: &Partitioner| p.choose("t", None, None, 6, &[1, 3, 5]);
            turns.extend(choose(&partitioner));
            assert_eq!(choose(&partitioner), turns.last().copied(), "one batch");
            partitioner.batch_complete("t");
        }
        assert_eq!(turns, [1, 3, 5, 1]);
    }
}
