//! Floating-point numbers, of which client quotas are made.

use std::fmt;

/// A double. Compared by its bits, so that messages can be compared: what is not a number equals
/// itself.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Float64(u64);

impl Float64 {
    /// The number with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The value.
    pub const fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl From<f64> for Float64 {
    fn from(value: f64) -> Self {
        Self(value.to_bits())
    }
}

impl fmt::Debug for Float64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
