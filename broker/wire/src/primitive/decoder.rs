//! Reads primitives off a frame.
//!
//! Bounds: no length is believed beyond the bytes that remain, and all arrays of one frame
//! together take at most [`DECODED_LEN_FLOOR`] + [`DECODED_EXPANSION_MAX`] × the frame's length.

use bytes::{Buf, Bytes};

use super::Str;
use crate::varint;

/// Memory that the arrays of any frame may take, however short it is.
pub(crate) const DECODED_LEN_FLOOR: usize = 1 << 20;
/// Memory that the arrays of a frame may take, as a multiple of its length.
pub(crate) const DECODED_EXPANSION_MAX: usize = 16;

/// Why a frame cannot be decoded. The connection it came from is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field goes beyond the end of the frame.
    #[error("{needed} bytes needed, {available} left in the frame")]
    Truncated {
        /// Bytes the field needs at least.
        needed: usize,
        /// Bytes that were left.
        available: usize,
    },
    /// A length below -1.
    #[error("length {0} is negative")]
    NegativeLength(i32),
    /// A varint of more than 32 bits, or one that is torn.
    #[error("invalid varint")]
    InvalidVarint,
    /// A string that is not UTF-8.
    #[error("string is not valid UTF-8")]
    InvalidUtf8,
    /// Null where the field cannot be null.
    #[error("null for a field that is not nullable")]
    UnexpectedNull,
    /// The arrays of the frame would take too much memory for its length.
    #[error("arrays exceed the memory allowed for a frame of this length")]
    TooManyElements,
    /// A tagged field whose content is shorter or longer than its size says.
    #[error("tagged field {tag} does not have the size it claims")]
    TaggedFieldSize {
        /// Number of the field.
        tag: u32,
    },
}

/// A position in a frame. Strings and bytes that are read share the frame's memory.
#[derive(Debug, Clone)]
pub struct Decoder {
    frame: Bytes,
    array_len_left: usize,
}

impl Decoder {
    /// Starts at the front of `frame`, which has no length prefix any more.
    pub fn new(frame: Bytes) -> Self {
        let expanded = frame.len().saturating_mul(DECODED_EXPANSION_MAX);
        Self {
            array_len_left: expanded.saturating_add(DECODED_LEN_FLOOR),
            frame,
        }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.frame.len()
    }

    fn need(&self, needed: usize) -> Result<(), DecodeError> {
        if self.frame.len() < needed {
            return Err(DecodeError::Truncated {
                needed,
                available: self.frame.len(),
            });
        }
        Ok(())
    }

    pub(crate) fn read_i8(&mut self) -> Result<i8, DecodeError> {
        self.need(1)?;
        Ok(self.frame.get_i8())
    }

    pub(crate) fn read_i16(&mut self) -> Result<i16, DecodeError> {
        self.need(2)?;
        Ok(self.frame.get_i16())
    }

    pub(crate) fn read_i32(&mut self) -> Result<i32, DecodeError> {
        self.need(4)?;
        Ok(self.frame.get_i32())
    }

    pub(crate) fn read_i64(&mut self) -> Result<i64, DecodeError> {
        self.need(8)?;
        Ok(self.frame.get_i64())
    }

    pub(crate) fn read_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.need(N)?;
        let mut bytes = [0; N];
        self.frame.copy_to_slice(&mut bytes);
        Ok(bytes)
    }

    pub(crate) fn read_unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let mut rest = &self.frame[..];
        let value = varint::read_u32(&mut rest).ok_or(DecodeError::InvalidVarint)?;
        let read_len = self.frame.len() - rest.len();
        self.frame.advance(read_len);
        Ok(value)
    }

    /// Length in the flexible form; `None` is null.
    pub(crate) fn read_compact_len(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self
            .read_unsigned_varint()?
            .checked_sub(1)
            .map(|len| len as usize))
    }

    /// Length in the form before that, already read.
    pub(crate) fn plain_len(len: i32) -> Result<Option<usize>, DecodeError> {
        match len {
            -1 => Ok(None),
            _ => usize::try_from(len)
                .map(Some)
                .map_err(|_| DecodeError::NegativeLength(len)),
        }
    }

    pub(crate) fn read_bytes(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        self.need(len)?;
        Ok(self.frame.split_to(len))
    }

    pub(crate) fn read_str(&mut self, len: usize) -> Result<Str, DecodeError> {
        Str::from_utf8(self.read_bytes(len)?).map_err(|_| DecodeError::InvalidUtf8)
    }

    /// The nullable string of request headers, which never takes the flexible form.
    pub(crate) fn read_plain_nullable_str(&mut self) -> Result<Option<Str>, DecodeError> {
        match Self::plain_len(self.read_i16()?.into())? {
            Some(len) => self.read_str(len).map(Some),
            None => Ok(None),
        }
    }

    /// Accounts for an array of `count` elements of `element_size` bytes in memory, each of which
    /// takes at least `len_min` bytes of the frame.
    pub(crate) fn admit_array(
        &mut self,
        count: usize,
        len_min: usize,
        element_size: usize,
    ) -> Result<(), DecodeError> {
        self.need(count.saturating_mul(len_min))?;
        self.array_len_left = count
            .checked_mul(element_size)
            .and_then(|len| self.array_len_left.checked_sub(len))
            .ok_or(DecodeError::TooManyElements)?;
        Ok(())
    }

    /// Reads the tagged fields that end a flexible struct. `read` gets those it knows by their
    /// number and returns whether it read one; the others are skipped.
    pub(crate) fn read_tagged_fields(
        &mut self,
        mut read: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        for _ in 0..self.read_unsigned_varint()? {
            let tag = self.read_unsigned_varint()?;
            let size = self.read_unsigned_varint()? as usize;
            self.need(size)?;
            let end = self.remaining() - size;
            if !read(self, tag)? {
                self.frame.advance(size);
            }
            if self.remaining() != end {
                return Err(DecodeError::TaggedFieldSize { tag });
            }
        }
        Ok(())
    }
}
