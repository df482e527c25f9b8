//! Record batches that are built once and sent many times.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use broker_wire::record::{BatchBuilder, Compression, NewRecord};
use bytes::Bytes;

/// What batches consist of.
#[derive(Clone, clap::Args)]
pub(crate) struct BatchOptions {
    /// Bytes of a record's value
    #[arg(long, default_value_t = 1024)]
    record_bytes: usize,
    /// A batch has as many records as fit, at least one
    #[arg(long, default_value_t = 16 << 10)]
    batch_bytes: usize,
    /// Bytes of a record's key; none by default
    #[arg(long, default_value_t = 0)]
    key_bytes: usize,
    #[arg(long, value_enum, default_value_t = Codec::None)]
    compression: Codec,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// A batch as producers send it.
#[derive(Clone)]
pub(crate) struct Batch {
    pub(crate) bytes: Bytes,
    pub(crate) records: u64,
    /// Of the records' keys and values.
    pub(crate) payload_bytes: u64,
}

impl BatchOptions {
    /// The smallest batch.
    pub(crate) const fn single_record() -> Self {
        Self {
            record_bytes: 1,
            batch_bytes: 0,
            key_bytes: 0,
            compression: Codec::None,
        }
    }

    /// A batch whose content depends on the seed.
    pub(crate) fn build(&self, seed: u64) -> Result<Batch> {
        let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));
        let codec = match self.compression {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        };
        // Old records would be deleted while the load runs.
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let mut builder = BatchBuilder::new(0).compression(codec);
        let (mut key, mut value) = (vec![0; self.key_bytes], vec![0; self.record_bytes]);
        let (mut records, mut record_len) = (0, 0);
        while records == 0 || builder.len() + record_len <= self.batch_bytes {
            let before = builder.len();
            random.fill(&mut key);
            random.fill(&mut value);
            builder.append(&NewRecord {
                timestamp,
                key: (self.key_bytes > 0).then_some(&key[..]),
                value: Some(&value),
                ..NewRecord::default()
            });
            record_len = builder.len() - before;
            records += 1;
        }
        Ok(Batch {
            bytes: builder.build()?,
            records,
            payload_bytes: records * (self.key_bytes + self.record_bytes) as u64,
        })
    }
}

/// Capital letters, as Kafka's `ProducerPerformance` sends: they compress to about 60 %.
struct Random(u64);

impl Random {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = b'A' + (self.0 >> 33) as u8 % 26;
        }
    }
}

#[cfg(test)]
mod tests {
    use broker_wire::record::{BatchHeader, verify_crc};

    use super::*;

    #[test]
    fn a_batch_is_whole_and_as_large_as_asked_for() {
        for (record_bytes, key_bytes, records) in [(100, 0, 148), (1024, 16, 15), (20_000, 0, 1)] {
            let options = BatchOptions {
                record_bytes,
                batch_bytes: 16 << 10,
                key_bytes,
                compression: Codec::None,
            };
            let batch = options.build(7).unwrap();
            let header = BatchHeader::parse(&batch.bytes).unwrap();
            verify_crc(&batch.bytes).unwrap();
            assert_eq!(header.record_count as u64, batch.records);
            assert!(batch.records >= records, "{}", batch.records);
            assert!(batch.records == 1 || batch.bytes.len() <= 16 << 10);
        }
    }
}
