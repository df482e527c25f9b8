//! Tells a torn tail of the metadata log, which a crash leaves, from damage: behind a torn tail there is
//! nothing.
//!
//! A member that cut its log at damage would vote with less than it has acknowledged. So a log with an
//! invalid entry before a valid one is not opened. After a power failure that may be an entry that was
//! never acknowledged; refusing is safe all the same.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use broker_wire::record::{BATCH_HEADER_LEN, BatchHeader, verify_crc};

/// Entries that are expected to lie within a damaged region at most.
const DAMAGED_ENTRIES_MAX: i64 = 1_000_000;

/// Reads every entry from the segment with `recovery_point` on, and returns where that begins.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] on damage, and what the disk says.
pub(super) fn check(directory: &Path, recovery_point: i64) -> io::Result<i64> {
    let segments = segments(directory)?;
    let after = segments.partition_point(|(base, _)| *base <= recovery_point);
    let segments = &segments[after.saturating_sub(1)..];
    let mut next = None;
    let mut damaged: Option<PathBuf> = None;
    for (base, path) in segments {
        let content = fs::read(path)?;
        let (end, valid) = walk(&content, next.unwrap_or(*base));
        let goes_on = if damaged.is_some() {
            valid > 0
        } else {
            next = Some(end);
            valid < content.len() && holds_entry(&content[valid..], end)
        };
        if goes_on {
            let path = damaged.as_ref().unwrap_or(path).display();
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{path} is damaged after entry {}",
                    next.unwrap_or(*base) - 1
                ),
            ));
        }
        if valid < content.len() {
            damaged.get_or_insert_with(|| path.clone());
        }
    }
    Ok(segments.first().map_or(0, |(base, _)| *base))
}

/// Where the whole batches without gaps at the start of `content` end: in offsets, and in bytes.
fn walk(content: &[u8], base: i64) -> (i64, usize) {
    let (mut next, mut position) = (base, 0);
    while let Some(header) = whole_batch(&content[position..]) {
        if header.base_offset != next {
            break;
        }
        next = header.next_offset();
        position += header.total_len();
    }
    (next, position)
}

/// Whether a whole batch that may follow offset `after` begins anywhere.
fn holds_entry(content: &[u8], after: i64) -> bool {
    let expected = after..after.saturating_add(DAMAGED_ENTRIES_MAX);
    let candidates = content.windows(BATCH_HEADER_LEN).enumerate();
    candidates
        .filter(|(_, bytes)| {
            let (offset, _) = bytes.split_first_chunk().expect("a header is longer");
            expected.contains(&i64::from_be_bytes(*offset))
        })
        .any(|(at, _)| whole_batch(&content[at..]).is_some())
}

fn whole_batch(content: &[u8]) -> Option<BatchHeader> {
    let header = BatchHeader::parse(content).ok()?;
    let batch = content.get(..header.total_len())?;
    verify_crc(batch).ok()?;
    Some(header)
}

/// Base offsets and paths in order.
fn segments(directory: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let base = path
            .file_stem()
            .and_then(|name| name.to_str()?.parse().ok());
        segments.extend(base.filter(|_| is_log).map(|base| (base, path)));
    }
    segments.sort_unstable();
    Ok(segments)
}
