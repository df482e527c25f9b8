//! Small text files that are replaced as a whole, in Kafka's formats.
//!
//! A checkpoint is a version line (`0`), a line with the number of entries, and one line for each
//! entry. A reader finds the old file or the new one, whatever happens in between.

use std::io;
use std::path::Path;

use broker_core::Offset;

use crate::fs::{Fs, OpenMode};

/// Entries of a checkpoint that are read; more than any data directory holds.
pub const CHECKPOINT_ENTRIES_MAX: usize = 1_000_000;

const VERSION: &str = "0";

/// One partition's line in a file of offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    pub topic: String,
    pub partition: i32,
    pub offset: Offset,
}

/// Replaces a file durably: temporary file, sync, rename, sync of the directory.
///
/// # Errors
/// What the file system answers; the old file or the new one is there.
pub fn replace(fs: &dyn Fs, path: &Path, contents: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let file = fs.open(Path::new(&temporary), OpenMode::Truncate)?;
    file.write_at(contents, 0)?;
    file.sync_data()?;
    fs.rename(Path::new(&temporary), path)?;
    fs.sync_dir(parent)
}

/// Reads a text file of at most `len_max` bytes, `None` when it does not exist.
///
/// # Errors
/// What the file system answers, or that the file is longer or no text.
pub fn read_text(fs: &dyn Fs, path: &Path, len_max: u64) -> io::Result<Option<String>> {
    if !fs.exists(path)? {
        return Ok(None);
    }
    let file = fs.open(path, OpenMode::Existing)?;
    let len = file.len()?;
    if len > len_max {
        return Err(invalid(path, "is too long"));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    String::from_utf8(bytes)
        .map(Some)
        .map_err(|_| invalid(path, "is not text"))
}

pub(crate) fn invalid(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} {what}", path.display()),
    )
}

/// Writes entries, one for each line.
pub(crate) fn write_lines(
    fs: &dyn Fs,
    path: &Path,
    lines: impl ExactSizeIterator<Item = String>,
) -> io::Result<()> {
    let mut text = format!("{VERSION}\n{}\n", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    replace(fs, path, text.as_bytes())
}

/// Reads entries, one for each line; none when the file does not exist.
pub(crate) fn read_lines<T>(
    fs: &dyn Fs,
    path: &Path,
    parse: impl Fn(&str) -> Option<T>,
) -> io::Result<Vec<T>> {
    const LINE_LEN_MAX: u64 = 300;
    let len_max = CHECKPOINT_ENTRIES_MAX as u64 * LINE_LEN_MAX;
    let Some(text) = read_text(fs, path, len_max)? else {
        return Ok(Vec::new());
    };
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Err(invalid(path, "has an unknown version"));
    }
    let count: Option<usize> = lines.next().and_then(|line| line.parse().ok());
    let entries: Option<Vec<T>> = lines.take(CHECKPOINT_ENTRIES_MAX).map(parse).collect();
    match entries {
        Some(entries) if Some(entries.len()) == count => Ok(entries),
        _ => Err(invalid(path, "is malformed")),
    }
}

/// Writes offsets of partitions: `<topic> <partition> <offset>`.
pub(crate) fn write_offsets(fs: &dyn Fs, path: &Path, entries: &[OffsetEntry]) -> io::Result<()> {
    let line = |e: &OffsetEntry| format!("{} {} {}", e.topic, e.partition, e.offset);
    write_lines(fs, path, entries.iter().map(line))
}

/// Reads offsets of partitions.
pub(crate) fn read_offsets(fs: &dyn Fs, path: &Path) -> io::Result<Vec<OffsetEntry>> {
    read_lines(fs, path, |line| {
        let mut fields = line.split(' ');
        let entry = OffsetEntry {
            topic: fields.next().filter(|topic| !topic.is_empty())?.to_owned(),
            partition: fields.next()?.parse().ok()?,
            offset: Offset(fields.next()?.parse().ok()?),
        };
        fields.next().is_none().then_some(entry)
    })
}
