//! The records of a fetched partition.

use bytes::Bytes;

/// Record batches in a Fetch response: in memory, or a region of a file that the listener sends
/// behind the encoder's back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Null. Kafka's brokers send [`Records::EMPTY`] instead, which every client understands.
    None,
    /// Batches in memory.
    Bytes(Bytes),
    /// Batches that are not copied into the frame; see [`super::External`].
    External {
        /// Bytes of the region.
        len: u32,
        /// Names the region to whoever sends the frame.
        token: u32,
    },
}

impl Records {
    /// No batches.
    pub const EMPTY: Self = Self::Bytes(Bytes::new());

    /// Bytes of the batches.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Bytes(bytes) => bytes.len(),
            Self::External { len, .. } => *len as usize,
        }
    }

    /// Whether there are no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Records {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}
