//! Frames: every request and response is preceded by its length as an `i32`.

use bytes::{Buf, Bytes, BytesMut};

const PREFIX_LEN: usize = 4;

/// A length that no frame may have. The connection it came from is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Below zero: not the Kafka protocol.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// Beyond what the receiver accepts (`socket.request.max.bytes`).
    #[error("frame length {len} exceeds {len_max}")]
    TooLong {
        /// The length claimed.
        len: usize,
        /// The length allowed.
        len_max: usize,
    },
}

/// Checks the length prefix of a frame and returns the bytes that follow it.
pub fn frame_len(prefix: [u8; 4], len_max: usize) -> Result<usize, FrameError> {
    let len = i32::from_be_bytes(prefix);
    let len = usize::try_from(len).map_err(|_| FrameError::Negative(len))?;
    if len > len_max {
        return Err(FrameError::TooLong { len, len_max });
    }
    Ok(len)
}

/// Takes the first frame off `buffer`, without its prefix; `None` until all of it is there. The
/// prefix is checked as soon as it is there. Nothing is reserved for the rest of the frame.
pub fn split_frame(buffer: &mut BytesMut, len_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(&prefix) = buffer.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let len = frame_len(prefix, len_max)?;
    if buffer.len() < PREFIX_LEN + len {
        return Ok(None);
    }
    buffer.advance(PREFIX_LEN);
    Ok(Some(buffer.split_to(len).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_split_when_complete() {
        let mut buffer = BytesMut::new();
        for byte in [0, 0, 0, 2, 7] {
            buffer.extend_from_slice(&[byte]);
            assert_eq!(split_frame(&mut buffer, 10), Ok(None));
        }
        buffer.extend_from_slice(&[8, 0, 0, 0, 0, 1]);
        assert_eq!(
            split_frame(&mut buffer, 10),
            Ok(Some(Bytes::from_static(&[7, 8])))
        );
        assert_eq!(split_frame(&mut buffer, 10), Ok(Some(Bytes::new())));
        assert_eq!(split_frame(&mut buffer, 10), Ok(None));
        assert_eq!(&buffer[..], [1]);
    }

    #[test]
    fn impossible_lengths_are_refused_at_once() {
        let with_prefix =
            |len: i32| split_frame(&mut BytesMut::from(&len.to_be_bytes()[..]), 100).unwrap_err();
        assert_eq!(with_prefix(-1), FrameError::Negative(-1));
        assert_eq!(
            with_prefix(101),
            FrameError::TooLong {
                len: 101,
                len_max: 100
            }
        );
        assert_eq!(
            with_prefix(i32::MAX),
            FrameError::TooLong {
                len: i32::MAX as usize,
                len_max: 100
            }
        );
    }
}
