//! Regions of segment files on their way to a client.
//!
//! `sendfile` moves bytes from the page cache to the socket without passing through this process,
//! but on a cold page it waits for the disk, and with it the thread that serves many connections.
//! So a region whose first and last page are not both in the cache is first read on a blocking
//! thread. Tail reads are in the cache and never take that way; whoever catches up reads in order,
//! and the kernel's read-ahead leaves few holes between two cached ends.

use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;

use broker_log::LogSlice;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::task::spawn_blocking;

/// Read at a time when a region is brought into the page cache.
const WARM_BYTES: usize = 256 * 1024;

/// Brings the region into the page cache unless it seems to be there.
pub(super) async fn ensure_cached(slice: &LogSlice) -> io::Result<()> {
    let cached = slice.file.as_fd().is_none_or(|fd| is_cached(fd, slice));
    if cached {
        return Ok(());
    }
    let slice = slice.clone();
    spawn_blocking(move || warm(&slice))
        .await
        .map_err(io::Error::other)?
}

fn is_cached(fd: BorrowedFd<'_>, slice: &LogSlice) -> bool {
    let last = slice.position + (slice.len as u64).saturating_sub(1);
    is_page_cached(fd, slice.position) && is_page_cached(fd, last)
}

fn is_page_cached(fd: BorrowedFd<'_>, position: u64) -> bool {
    let mut byte = [0];
    let read = preadv2(
        fd,
        &mut [IoSliceMut::new(&mut byte)],
        position,
        ReadWriteFlags::NOWAIT,
    );
    match read {
        Ok(_) => true,
        // Where the file system cannot tell, a blocking thread is the safe way.
        Err(Errno::AGAIN | Errno::OPNOTSUPP) => false,
        // Sending will report it.
        Err(_) => true,
    }
}

fn warm(slice: &LogSlice) -> io::Result<()> {
    let mut buffer = vec![0; slice.len.min(WARM_BYTES)];
    let mut read = 0;
    while read < slice.len {
        let len = buffer.len().min(slice.len - read);
        slice
            .file
            .read_exact_at(&mut buffer[..len], slice.position + read as u64)?;
        read += len;
    }
    Ok(())
}
