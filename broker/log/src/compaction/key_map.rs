//! The offset of each key's last record, in bounded memory.
//!
//! Keys are known by 128 bits of a keyed hash, as Kafka knows them by an MD5: among five million keys
//! two are mistaken for one with a probability of 2⁻⁸⁴, and nobody can choose keys that are, because
//! the hash's secret is drawn for each map.

use std::hash::{BuildHasher, RandomState};

use broker_core::Offset;

/// Tenths of the slots that are used: beyond it, look-ups get slow.
const LOAD_TENTHS_MAX: usize = 9;
const SLOTS_MIN: usize = 4;

/// There is no room for another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// -1: free.
    offset: i64,
}

const FREE: Slot = Slot {
    hash: [0; 2],
    offset: -1,
};

/// An open-addressing table that never grows.
pub(crate) struct KeyMap {
    slots: Vec<Slot>,
    used: usize,
    used_max: usize,
    hashers: [RandomState; 2],
}

impl KeyMap {
    /// Room for `keys` keys, or for as many as fit into `bytes_max` bytes.
    pub(crate) fn new(keys: u64, bytes_max: usize) -> Self {
        let keys = usize::try_from(keys).unwrap_or(usize::MAX);
        let wanted = keys.saturating_mul(10).div_ceil(LOAD_TENTHS_MAX);
        let slots = wanted.min(bytes_max / size_of::<Slot>()).max(SLOTS_MIN);
        Self {
            slots: vec![FREE; slots],
            used: 0,
            used_max: slots * LOAD_TENTHS_MAX / 10,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Notes that the last record of `key` is at `offset`.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let hash = self.hash(key);
        let at = self.find(hash);
        if self.slots[at].offset < 0 {
            if self.used == self.used_max {
                return Err(Full);
            }
            self.used += 1;
        }
        self.slots[at] = Slot {
            hash,
            offset: offset.0,
        };
        Ok(())
    }

    /// The last record of `key`, if it has one here.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset >= 0).then_some(Offset(slot.offset))
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        let [a, b] = &self.hashers;
        [a.hash_one(key), b.hash_one(key)]
    }

    /// The slot of a hash, or the free one where it belongs. There is always a free one.
    fn find(&self, hash: [u64; 2]) -> usize {
        let mut at = (hash[0] % self.slots.len() as u64) as usize;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = (at + 1) % self.slots.len();
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_without_limits_holds_until_it_is_full(
            bytes_max in 0..2_000usize,
            keys in prop::collection::vec(0..60u8, 0..200),
        ) {
            let mut map = KeyMap::new(keys.len() as u64, bytes_max);
            let mut expected = HashMap::new();
            for (offset, key) in keys.iter().enumerate() {
                let offset = Offset(offset as i64);
                match map.put(&[*key], offset) {
                    Ok(()) => {
                        expected.insert(*key, offset);
                    }
                    Err(Full) => {
                        prop_assert!(!expected.contains_key(key), "a known key always has room");
                        prop_assert!(map.len() * 24 * 10 >= bytes_max.saturating_sub(48) * 8);
                    }
                }
            }
            prop_assert!(map.len() * size_of::<Slot>() <= bytes_max.max(SLOTS_MIN * 24));
            for key in 0..60u8 {
                prop_assert_eq!(map.get(&[key]), expected.get(&key).copied());
            }
        }
    }
}
