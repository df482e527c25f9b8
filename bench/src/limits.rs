//! What the machine can do, to be set beside what brokers do with it.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use rustix::fs::sendfile;
use serde::Serialize;

/// How long each is measured.
const SPAN: Duration = Duration::from_secs(2);
/// Larger than the caches of most processors.
const BUFFER_BYTES: usize = 64 << 20;
const READ_BYTES: usize = 1 << 20;
const SYNCED_BYTES: usize = 4096;

#[derive(Serialize)]
pub(crate) struct Limits {
    /// One sender, one receiver, from the page cache.
    sendfile_bytes_per_second: f64,
    memcpy_bytes_per_second: f64,
    crc32c_bytes_per_second: f64,
    /// Each after 4 KiB more of the same file.
    fdatasync_per_second: f64,
}

pub(crate) fn measure(directory: &Path) -> Result<Limits> {
    Ok(Limits {
        sendfile_bytes_per_second: loopback_sendfile(directory)?,
        memcpy_bytes_per_second: memcpy(),
        crc32c_bytes_per_second: checksum(),
        fdatasync_per_second: fdatasync(directory)?,
    })
}

/// Repeats `step`, which returns how much it did; per second.
fn rate(mut step: impl FnMut() -> usize) -> f64 {
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < SPAN {
        done += step();
    }
    done as f64 / start.elapsed().as_secs_f64()
}

fn loopback_sendfile(directory: &Path) -> Result<f64> {
    let mut file = tempfile::tempfile_in(directory)?;
    file.write_all(&vec![7; BUFFER_BYTES])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let receiver = thread::spawn(move || receive(TcpStream::connect(address)?));
    let (socket, _) = listener.accept()?;
    let start = Instant::now();
    while start.elapsed() < SPAN {
        send_whole(&socket, &file)?;
    }
    drop(socket);
    let received = receiver
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))??;
    Ok(received as f64 / start.elapsed().as_secs_f64())
}

fn send_whole(socket: &TcpStream, file: &File) -> Result<()> {
    let mut offset = 0;
    while offset < BUFFER_BYTES as u64 {
        sendfile(socket, file, Some(&mut offset), READ_BYTES)?;
    }
    Ok(())
}

fn receive(mut socket: TcpStream) -> std::io::Result<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut received = 0;
    loop {
        match socket.read(&mut buffer)? {
            0 => return Ok(received),
            read => received += read as u64,
        }
    }
}

fn memcpy() -> f64 {
    let source = vec![7_u8; BUFFER_BYTES];
    let mut target = vec![0_u8; BUFFER_BYTES];
    rate(|| {
        target.copy_from_slice(black_box(&source));
        black_box(&mut target).len()
    })
}

fn checksum() -> f64 {
    let bytes = vec![7_u8; BUFFER_BYTES];
    rate(|| {
        black_box(crc32c::crc32c(black_box(&bytes)));
        bytes.len()
    })
}

fn fdatasync(directory: &Path) -> Result<f64> {
    let path = tempfile::NamedTempFile::new_in(directory)?;
    let mut file = OpenOptions::new().append(true).open(path.path())?;
    let block = [7; SYNCED_BYTES];
    let mut failed = None;
    let rate = rate(|| {
        let synced = file.write_all(&block).and_then(|()| file.sync_data());
        failed = failed.take().or_else(|| synced.err());
        1
    });
    failed.map_or(Ok(rate), |error| Err(error.into()))
}
