//! The four codecs of Kafka, with the framings its clients use. Decompression never produces more
//! than the caller's limit, whatever the compressed bytes claim.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// Start of the framing that Java's snappy stream (xerial) puts around raw snappy blocks.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and lowest compatible version, four bytes each for the versions.
const XERIAL_HEADER_LEN: usize = 16;
/// Bytes that one xerial block holds before compression.
const XERIAL_BLOCK_LEN: usize = 32 * 1024;
/// Snappy's densest element makes 64 bytes out of 3: a block that claims more than this lies.
const SNAPPY_EXPANSION_MAX: usize = 32;
/// A zstd decoder must support windows of 8 MiB (RFC 8878); larger ones only if the limit is.
const ZSTD_WINDOW_LOG_MIN: u32 = 23;
/// The largest window zstd itself accepts by default.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// First allocation for decompressed bytes, as a multiple of the compressed ones.
const EXPANSION_GUESS: usize = 4;

/// Codec of a batch's records; the value is the id in its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Compression {
    /// Not compressed.
    None = 0,
    /// gzip.
    Gzip = 1,
    /// Snappy in xerial framing; raw blocks are read too.
    Snappy = 2,
    /// LZ4 frame with independent blocks of 64 KiB.
    Lz4 = 3,
    /// Zstandard (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// The codec with this id.
    pub fn from_id(id: i16) -> Option<Self> {
        Some(match id {
            0 => Self::None,
            1 => Self::Gzip,
            2 => Self::Snappy,
            3 => Self::Lz4,
            4 => Self::Zstd,
            _ => return None,
        })
    }

    /// Id in the attributes of a batch.
    pub fn id(self) -> i16 {
        self as i16
    }
}

/// Why records could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The decompressed bytes are more than the caller allows.
    #[error("decompressed records exceed {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The bytes are not valid for the codec.
    #[error("{codec:?} data is corrupt: {reason}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What its decoder says.
        reason: String,
    },
}

/// Compresses `input` and appends the result to `out`.
pub fn compress(
    codec: Compression,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let result = match codec {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => compress_gzip(input, out),
        Compression::Snappy => return compress_snappy(input, out),
        Compression::Lz4 => compress_lz4(input, out),
        Compression::Zstd => zstd::stream::copy_encode(input, out, zstd::DEFAULT_COMPRESSION_LEVEL),
    };
    result.map_err(|error| corrupt(codec, &error))
}

/// Decompresses `input` into at most `limit` bytes.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if input.len() > limit => Err(CompressionError::TooLarge { limit }),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => read_bounded(
            codec,
            flate2::read::MultiGzDecoder::new(input),
            input.len(),
            limit,
        ),
        Compression::Snappy => decompress_snappy(input, limit),
        Compression::Lz4 => read_bounded(codec, FrameDecoder::new(input), input.len(), limit),
        Compression::Zstd => {
            let decoder = zstd_decoder(input, limit).map_err(|error| corrupt(codec, &error))?;
            read_bounded(codec, decoder, input.len(), limit)
        }
    }
}

fn corrupt(codec: Compression, reason: &dyn std::fmt::Display) -> CompressionError {
    CompressionError::Corrupt {
        codec,
        reason: reason.to_string(),
    }
}

fn read_bounded(
    codec: Compression,
    decoder: impl Read,
    compressed_len: usize,
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(limit.min(compressed_len.saturating_mul(EXPANSION_GUESS)));
    let one_too_many = (limit as u64).saturating_add(1);
    decoder
        .take(one_too_many)
        .read_to_end(&mut out)
        .map_err(|error| corrupt(codec, &error))?;
    if out.len() > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    Ok(out)
}

fn compress_gzip(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(input)?;
    encoder.finish().map(drop)
}

fn compress_lz4(input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let frame = FrameInfo::new()
        .block_size(BlockSize::Max64KB)
        .block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(frame, out);
    encoder.write_all(input)?;
    encoder.finish().map(drop).map_err(io::Error::other)
}

fn zstd_decoder(
    input: &[u8],
    limit: usize,
) -> io::Result<zstd::stream::read::Decoder<'static, &[u8]>> {
    let window_log = limit.checked_ilog2().unwrap_or(0) + 1;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(window_log.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn compress_snappy(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_LEN) {
        let compressed = encoder
            .compress_vec(block)
            .map_err(|error| corrupt(Compression::Snappy, &error))?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(())
}

fn decompress_snappy(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !input.starts_with(&XERIAL_MAGIC) {
        append_snappy_block(input, limit, &mut out)?;
        return Ok(out);
    }
    let torn = || corrupt(Compression::Snappy, &"torn xerial framing");
    let mut rest = input.get(XERIAL_HEADER_LEN..).ok_or_else(torn)?;
    while !rest.is_empty() {
        let (len, after_len) = rest.split_first_chunk::<4>().ok_or_else(torn)?;
        let len = u32::from_be_bytes(*len) as usize;
        let (block, after_block) = after_len.split_at_checked(len).ok_or_else(torn)?;
        append_snappy_block(block, limit, &mut out)?;
        rest = after_block;
    }
    Ok(out)
}

fn append_snappy_block(
    block: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let bad = |error: snap::Error| corrupt(Compression::Snappy, &error);
    let len = snap::raw::decompress_len(block).map_err(bad)?;
    if len > limit - out.len() {
        return Err(CompressionError::TooLarge { limit });
    }
    if len > block.len() * SNAPPY_EXPANSION_MAX {
        return Err(corrupt(
            Compression::Snappy,
            &"block claims an impossible length",
        ));
    }
    let start = out.len();
    out.resize(start + len, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(bad)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn compressed(codec: Compression, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        compress(codec, input, &mut out).unwrap();
        out
    }

    proptest! {
        #[test]
        fn round_trips(input in proptest::collection::vec(0u8..4, 0..100_000)) {
            for codec in CODECS {
                let out = compressed(codec, &input);
                prop_assert_eq!(&decompress(codec, &out, input.len()).unwrap(), &input);
            }
        }

        #[test]
        fn random_bytes_never_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            for codec in CODECS {
                if let Ok(out) = decompress(codec, &input, 1000) {
                    prop_assert!(out.len() <= 1000);
                }
            }
        }

        #[test]
        fn flipped_bytes_never_panic(at in 0usize..4096, flip in 1u8..) {
            let input = b"the same words again and again, ".repeat(300);
            for codec in CODECS {
                let mut out = compressed(codec, &input);
                let at = at % out.len();
                out[at] ^= flip;
                if let Ok(out) = decompress(codec, &out, 20_000) {
                    prop_assert!(out.len() <= 20_000);
                }
            }
        }
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 10_000_000];
        for codec in CODECS {
            let bomb = compressed(codec, &zeros);
            let error = decompress(codec, &bomb, 1_000_000).unwrap_err();
            assert!(
                matches!(error, CompressionError::TooLarge { limit: 1_000_000 }),
                "{error}"
            );
        }
    }

    #[test]
    fn raw_snappy_is_read() {
        let raw = snap::raw::Encoder::new()
            .compress_vec(b"from a client without xerial")
            .unwrap();
        assert_eq!(
            decompress(Compression::Snappy, &raw, 100).unwrap(),
            b"from a client without xerial"
        );
    }

    #[test]
    fn snappy_block_that_lies_about_its_length_is_refused() {
        let lie = [0xff, 0xff, 0xff, 0x07, 0, 0];
        assert!(decompress(Compression::Snappy, &lie, usize::MAX).is_err());
    }
}
