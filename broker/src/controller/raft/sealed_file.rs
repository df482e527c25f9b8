//! Small files that are replaced as a whole: the content is checksummed, and after a crash the old
//! or the new one is found, never a mixture.
//!
//! Layout, big endian: magic (8 bytes), length of the content (u64), CRC-32C of the content (u32),
//! content.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use bytes::Bytes;

const HEADER_BYTES: usize = 20;

/// Says what a file is and in which version of its format.
pub(crate) type Magic = [u8; 8];

/// Replaces `path` and returns once the new content is on disk.
pub(crate) fn write(path: &Path, magic: Magic, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().expect("a sealed file lives in a directory");
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&magic)?;
    file.write_all(&(content.len() as u64).to_be_bytes())?;
    file.write_all(&crc32c::crc32c(content).to_be_bytes())?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}

/// The content of `path`, `None` when there is no such file.
pub(crate) fn read(path: &Path, magic: Magic) -> io::Result<Option<Bytes>> {
    let file = match fs::read(path) {
        Ok(file) => Bytes::from(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match open(&file, magic) {
        Ok(content) => Ok(Some(content)),
        Err(reason) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} is damaged: {reason}", path.display()),
        )),
    }
}

fn open(file: &Bytes, magic: Magic) -> Result<Bytes, &'static str> {
    let (header, _) = file
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or("it is too short")?;
    let (found, header) = header.split_first_chunk::<8>().ok_or("it is too short")?;
    let (length, crc) = header.split_first_chunk::<8>().ok_or("it is too short")?;
    let content = file.slice(HEADER_BYTES..);
    if *found != magic {
        return Err("it is of another kind or of a newer version");
    }
    if u64::from_be_bytes(*length) != content.len() as u64 {
        return Err("its length is not the one in its header");
    }
    if *crc != crc32c::crc32c(&content).to_be_bytes() {
        return Err("its checksum does not match");
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: Magic = *b"KLMTEST1";

    #[test]
    fn content_comes_back_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert_eq!(read(&path, MAGIC).unwrap(), None);
        for content in [&b"first"[..], b"", b"a longer second one"] {
            write(&path, MAGIC, content).unwrap();
            assert_eq!(read(&path, MAGIC).unwrap().as_deref(), Some(content));
        }
    }

    #[test]
    fn every_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        write(&path, MAGIC, b"content").unwrap();
        let good = fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(read(&path, MAGIC).is_err(), "flipped bit in byte {byte}");
            fs::write(&path, &good[..byte]).unwrap();
            assert!(read(&path, MAGIC).is_err(), "cut at byte {byte}");
        }
    }
}
