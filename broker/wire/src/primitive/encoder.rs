//! Writes primitives into one frame.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Records, Str};
use crate::varint;

/// Bytes of the length that precedes a frame.
const PREFIX_LEN: usize = 4;
/// First allocation for a frame; most responses fit.
const CAPACITY: usize = 512;

/// A region of a frame that is not in its bytes: whoever sends the frame inserts `len` bytes at
/// `position`, straight from a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct External {
    /// Where in [`Encoded::bytes`] the region belongs.
    pub position: usize,
    /// Bytes of the region.
    pub len: u32,
    /// The token that [`Records::External`] had.
    pub token: u32,
}

/// A finished frame with its length prefix, which counts the external regions too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// All bytes that are not external.
    pub bytes: Bytes,
    /// External regions by ascending position.
    pub externals: Vec<External>,
}

/// A piece of a frame, in the order of sending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A region to be sent from elsewhere.
    External(External),
}

impl Encoded {
    /// Bytes that go over the wire, length prefix and external regions included.
    pub fn wire_len(&self) -> usize {
        let external: usize = self
            .externals
            .iter()
            .map(|external| external.len as usize)
            .sum();
        self.bytes.len() + external
    }

    /// The frame cut into pieces at its external regions.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let starts = std::iter::once(0).chain(self.externals.iter().map(|region| region.position));
        let regions = self.externals.iter().map(Some).chain(std::iter::once(None));
        starts.zip(regions).flat_map(|(start, region)| {
            let end = region.map_or(self.bytes.len(), |region| region.position);
            let bytes = (start < end).then(|| Segment::Bytes(self.bytes.slice(start..end)));
            bytes
                .into_iter()
                .chain(region.copied().map(Segment::External))
        })
    }
}

/// A frame being written.
#[derive(Debug)]
pub struct Encoder {
    buf: BytesMut,
    externals: Vec<External>,
    external_len: usize,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// An empty frame.
    pub fn new() -> Self {
        let mut buf = BytesMut::with_capacity(CAPACITY);
        buf.put_bytes(0, PREFIX_LEN);
        Self {
            buf,
            externals: Vec::new(),
            external_len: 0,
        }
    }

    /// Sets the length prefix and returns the frame.
    pub fn finish(mut self) -> Encoded {
        let frame_len = self.buf.len() - PREFIX_LEN + self.external_len;
        self.buf[..PREFIX_LEN].copy_from_slice(&(frame_len as u32).to_be_bytes());
        Encoded {
            bytes: self.buf.freeze(),
            externals: self.externals,
        }
    }

    pub(crate) fn write_i8(&mut self, value: i8) {
        self.buf.put_i8(value);
    }

    pub(crate) fn write_i16(&mut self, value: i16) {
        self.buf.put_i16(value);
    }

    pub(crate) fn write_i32(&mut self, value: i32) {
        self.buf.put_i32(value);
    }

    pub(crate) fn write_i64(&mut self, value: i64) {
        self.buf.put_i64(value);
    }

    pub(crate) fn write_slice(&mut self, bytes: &[u8]) {
        self.buf.put_slice(bytes);
    }

    pub(crate) fn write_unsigned_varint(&mut self, value: u32) {
        varint::write_u32(&mut self.buf, value);
    }

    /// Length in the flexible form; `None` is null.
    pub(crate) fn write_compact_len(&mut self, len: Option<usize>) {
        self.write_unsigned_varint(len.map_or(0, |len| len as u32 + 1));
    }

    /// Length in the form before that.
    pub(crate) fn write_plain_len(&mut self, len: Option<usize>) {
        self.write_i32(len.map_or(-1, |len| len as i32));
    }

    /// A string in the form before flexible versions. Such a string has at most `i16::MAX` bytes;
    /// a longer one, which only a flexible version can have brought in, is cut.
    pub(crate) fn write_plain_nullable_str(&mut self, text: Option<&str>) {
        let Some(text) = text else {
            self.write_i16(-1);
            return;
        };
        let text = &text[..text.floor_char_boundary(i16::MAX as usize)];
        self.write_i16(text.len() as i16);
        self.write_slice(text.as_bytes());
    }

    pub(crate) fn write_compact_nullable_str(&mut self, text: Option<&Str>) {
        self.write_compact_len(text.map(|text| text.len()));
        self.write_slice(text.map_or(&[][..], |text| text.as_bytes()));
    }

    /// The content of records, after their length.
    pub(crate) fn write_records(&mut self, records: &Records) {
        match *records {
            Records::None => {}
            Records::Bytes(ref bytes) => self.write_slice(bytes),
            Records::External { len, token } => {
                self.externals.push(External {
                    position: self.buf.len(),
                    len,
                    token,
                });
                self.external_len += len as usize;
            }
        }
    }

    /// Writes a tagged field: its number, its size and what `content` writes.
    pub(crate) fn write_tagged_field(&mut self, tag: u32, content: impl FnOnce(&mut Self)) {
        self.write_unsigned_varint(tag);
        let start = self.buf.len();
        content(self);
        let size = self.buf.len() - start;
        // The size precedes the content, but is known after it: move the content up.
        self.write_unsigned_varint(size as u32);
        self.buf[start..].rotate_left(size);
    }
}
