//! Values at random for tests: the same seed gives the same values.

/// A xorshift generator.
#[derive(Debug)]
pub(crate) struct Sampler(u64);

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number that is small more often than not.
    pub(crate) fn number(&mut self) -> i64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let shift = self.0 >> 58;
        (self.0 >> shift).cast_signed()
    }

    /// Length of an array: 0 to 3.
    pub(crate) fn count(&mut self) -> usize {
        self.number().unsigned_abs() as usize % 4
    }

    /// A text; now and then one whose length takes two bytes as a varint.
    pub(crate) fn text(&mut self) -> String {
        let len = match self.number() & 15 {
            0 => 200,
            len => len,
        };
        (0..len)
            .map(|_| if self.count() == 0 { 'ü' } else { 'k' })
            .collect()
    }
}
