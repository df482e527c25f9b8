//! Seeded random numbers, so that a failed run can be repeated.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// The environment variable that repeats a run.
const SEED: &str = "KLAMM_E2E_SEED";

/// A generator of the SplitMix64 kind.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// Starts from the seed in `KLAMM_E2E_SEED`, or from the clock, and prints it.
    #[must_use]
    pub fn from_environment() -> Self {
        let clock = || {
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs())
        };
        let seed = std::env::var(SEED)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(clock);
        println!("seed {seed}; {SEED}={seed} repeats it");
        Self { state: seed }
    }

    /// Starts from a seed.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number within a range that is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// So many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = count.div_ceil(8);
        let mut bytes: Vec<u8> = (0..words)
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        bytes.truncate(count);
        bytes
    }
}
