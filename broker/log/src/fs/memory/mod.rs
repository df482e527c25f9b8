//! A file system in memory that fails like a real one.
//!
//! Writes become durable only by a sync. [`MemoryFs::crash`] leaves what a power failure may leave:
//! of each file, the durable contents and any of the later writes, each whole, torn at any byte or
//! lost; of each directory, the durable names and the first few later changes. Faults can be set to
//! strike at a chosen operation. The same seed gives the same run.

mod disk;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

use disk::{Change, Dir, Disk, File, NameChange, Node, Random};

use super::{DirEntry, FileLock, FileMap, Fs, FsFile, OpenMode};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `EIO`: part of a write may have happened; a failed sync drops the writes it covered.
    Io,
    /// `ENOSPC`: part of a write may have happened.
    NoSpace,
    /// The process stops: nothing happens any more until [`MemoryFs::crash`].
    Crash,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultSpan {
    /// One operation fails.
    Once,
    /// Every operation fails until [`MemoryFs::heal`].
    Lasting,
}

/// A file system in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
}

impl MemoryFs {
    /// An empty file system whose faults are drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        let disk = Disk {
            nodes: vec![Node::Dir(Dir::default())],
            random: Random(seed | 1),
            operations: 0,
            fault: None,
            capacity: u64::MAX,
            locks: Vec::new(),
        };
        Self {
            disk: Arc::new(Mutex::new(disk)),
        }
    }

    /// Changing operations so far: writes, syncs, and changes of directories.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// Lets the changing operation that is `after` operations away fail, 0 being the next.
    pub fn fail_after(&self, after: u64, fault: Fault, span: FaultSpan) {
        let mut disk = self.disk.lock();
        disk.fault = Some((disk.operations + after, fault, span));
    }

    /// Ends a fault.
    pub fn heal(&self) {
        self.disk.lock().fault = None;
    }

    /// Limits the bytes of all files together; writes past it fail with `ENOSPC`.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity = bytes;
    }

    /// A power failure: loses and tears what was not synced, and heals the faults. Files that were
    /// open must not be used any more.
    pub fn crash(&self) {
        let mut disk = self.disk.lock();
        let Disk { nodes, random, .. } = &mut *disk;
        for node in nodes {
            match node {
                Node::File(file) => file.crash(random),
                Node::Dir(dir) => dir.crash(random),
            }
        }
        disk.fault = None;
        disk.locks.clear();
    }

    /// Another disk with the same contents and the same faults to come. Open files and locks stay
    /// with the old one.
    pub fn fork(&self) -> Self {
        let disk = self.disk.lock();
        let forked = Disk {
            nodes: disk.nodes.clone(),
            random: disk.random.clone(),
            locks: Vec::new(),
            ..*disk
        };
        Self {
            disk: Arc::new(Mutex::new(forked)),
        }
    }

    /// Lets the next fault fall out differently.
    pub fn draw(&self) {
        self.disk.lock().random.below(1);
    }

    /// Replaces bytes of a file, durably and unnoticed: bit rot.
    pub fn corrupt(&self, path: &Path, position: usize, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(path)?;
        let file = disk.file(id);
        for contents in [&mut file.contents, &mut file.durable] {
            if let Some(target) = contents.get_mut(position..position + bytes.len()) {
                target.copy_from_slice(bytes);
            }
        }
        Ok(())
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Io => io::Error::other("injected EIO"),
            Self::NoSpace => io::ErrorKind::StorageFull.into(),
            Self::Crash => io::Error::other("injected crash"),
        }
    }
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FsFile>> {
        let mut disk = self.disk.lock();
        let (parent, name) = disk.parent(path)?;
        let existing = disk.dir(parent)?.names.get(&name).copied();
        let id = match existing {
            Some(id) => {
                if mode == OpenMode::Truncate {
                    disk.operate().map_err(|(_, error)| error)?;
                    disk.file(id).change(Change::SetLen(0));
                }
                id
            }
            None if mode == OpenMode::Existing => return Err(io::ErrorKind::NotFound.into()),
            None => {
                disk.operate().map_err(|(_, error)| error)?;
                disk.link(parent, &name, Node::File(File::default()))?
            }
        };
        Ok(Arc::new(MemoryFile {
            disk: self.disk.clone(),
            id,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.find(from)?;
        let ((parent, from), (to_parent, to)) = (disk.parent(from)?, disk.parent(to)?);
        if parent != to_parent {
            return Err(io::ErrorKind::CrossesDevices.into());
        }
        disk.operate().map_err(|(_, error)| error)?;
        disk.dir(parent)?.change(NameChange::Rename(from, to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.find(path)?;
        let (parent, name) = disk.parent(path)?;
        disk.operate().map_err(|(_, error)| error)?;
        disk.dir(parent)?.change(NameChange::Unlink(name));
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let mut id = 0;
        for component in path.components() {
            let Component::Normal(name) = component else {
                continue;
            };
            let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
            id = match disk.dir(id)?.names.get(name) {
                Some(&existing) => existing,
                None => {
                    disk.operate().map_err(|(_, error)| error)?;
                    disk.link(id, name, Node::Dir(Dir::default()))?
                }
            };
        }
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find(path)?;
        disk.operate().map_err(|(_, error)| error)?;
        let dir = disk.dir(id)?;
        dir.durable.clone_from(&dir.names);
        dir.pending.clear();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut disk = self.disk.lock();
        let id = disk.find(path)?;
        let names = disk.dir(id)?.names.clone();
        let is_dir = |id: usize| matches!(disk.nodes[id], Node::Dir(_));
        Ok(names
            .into_iter()
            .map(|(name, id)| DirEntry {
                name,
                is_dir: is_dir(id),
            })
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.disk.lock().find(path).is_ok())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<FileLock>> {
        self.open(path, OpenMode::OrCreate)?;
        let mut disk = self.disk.lock();
        let id = disk.find(path)?;
        if disk.locks.contains(&id) {
            return Ok(None);
        }
        disk.locks.push(id);
        Ok(Some(FileLock(Box::new(MemoryLock {
            disk: self.disk.clone(),
            id,
        }))))
    }
}

struct MemoryLock {
    disk: Arc<Mutex<Disk>>,
    id: usize,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.disk.lock().locks.retain(|id| *id != self.id);
    }
}

struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    id: usize,
}

impl FsFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let position = position as usize;
        let grows_to = (position + bytes.len()).max(disk.file(self.id).contents.len());
        let used = disk.used() + (grows_to - disk.file(self.id).contents.len()) as u64;
        let failure = match disk.operate() {
            Ok(()) if used > disk.capacity => Some(Fault::NoSpace.error()),
            Ok(()) => None,
            Err((Fault::Crash, error)) => return Err(error),
            Err((_, error)) => Some(error),
        };
        let written = match failure {
            None => bytes.len(),
            Some(_) => disk.random.below(bytes.len()),
        };
        if written > 0 {
            let bytes = bytes[..written].to_vec();
            disk.file(self.id).change(Change::Write { position, bytes });
        }
        failure.map_or(Ok(()), Err)
    }

    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.disk.lock();
        let contents = &disk.file(self.id).contents;
        let from = contents.len().min(position as usize);
        let len = buf.len().min(contents.len() - from);
        buf[..len].copy_from_slice(&contents[from..from + len]);
        Ok(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().file(self.id).contents.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        disk.operate().map_err(|(_, error)| error)?;
        disk.file(self.id).change(Change::SetLen(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let result = disk.operate();
        let file = disk.file(self.id);
        match result {
            Ok(()) => {
                file.sync();
                Ok(())
            }
            Err((fault, error)) => {
                if fault != Fault::Crash {
                    file.pending.clear();
                }
                Err(error)
            }
        }
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn map(&self, capacity: usize) -> io::Result<Arc<dyn FileMap>> {
        Ok(Arc::new(MemoryMap {
            disk: self.disk.clone(),
            id: self.id,
            capacity,
        }))
    }
}

struct MemoryMap {
    disk: Arc<Mutex<Disk>>,
    id: usize,
    capacity: usize,
}

impl FileMap for MemoryMap {
    fn copy_to(&self, buf: &mut [u8], position: usize) {
        let end = position + buf.len();
        assert!(
            end <= self.capacity,
            "position {end} lies outside the map of {}",
            self.capacity
        );
        buf.copy_from_slice(&self.disk.lock().file(self.id).contents[position..end]);
    }
}
