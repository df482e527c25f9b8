//! A read-only memory map of a file that grows into it.
//!
//! The only unsafe code of the crate. No reference into the mapped memory is ever made: bytes are
//! copied out through a raw pointer, so the file may be written beside it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{MmapOptions, MmapRaw};

use super::FileMap;

pub(super) struct MappedFile(MmapRaw);

impl MappedFile {
    pub(super) fn new(file: &File, capacity: usize) -> io::Result<Self> {
        Ok(Self(
            MmapOptions::new().len(capacity).map_raw_read_only(file)?,
        ))
    }
}

impl FileMap for MappedFile {
    fn copy_to(&self, buf: &mut [u8], position: usize) {
        let end = position
            .checked_add(buf.len())
            .expect("positions are far below usize::MAX");
        assert!(
            end <= self.0.len(),
            "position {end} lies outside the map of {}",
            self.0.len()
        );
        // SAFETY: the range lies within the map (asserted above), the map lives as long as `self`,
        // and `buf` is memory of our own. The bytes are read, never borrowed, so a concurrent write
        // to other parts of the file breaks no reference. The caller keeps the range within the
        // file: index files are cut only by their owner, after it has lowered its entry count, and
        // the data directory's lock keeps other processes out.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.0.as_ptr().add(position),
                buf.as_mut_ptr(),
                buf.len(),
            );
        }
    }
}
