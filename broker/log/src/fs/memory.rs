//! A file system in memory that fails like a real one.
//!
//! Writes become durable only by a sync. [`MemoryFs::crash`] leaves what a power failure may leave:
//! of each file, the durable contents and any of the later writes, each whole, torn at any byte or
//! lost; of each directory, the durable names and the first few later changes. Faults can be set to
//! strike at a chosen operation. The same seed gives the same run.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Component, Path};
use std::sync::Arc;

use parking_lot::Mutex;

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

struct Disk {
    /// Never reused; the first is the root.
    nodes: Vec<Node>,
    random: Random,
    operations: u64,
    fault: Option<(u64, Fault, FaultSpan)>,
    capacity: u64,
    locks: Vec<usize>,
}

enum Node {
    File(File),
    Dir(Dir),
}

#[derive(Default)]
struct File {
    contents: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Default)]
struct Dir {
    names: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
}

#[derive(Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl File {
    fn apply(contents: &mut Vec<u8>, change: &Change, len: usize) {
        match change {
            Change::Write { position, bytes } => {
                let bytes = &bytes[..len];
                if contents.len() < position + bytes.len() {
                    contents.resize(position + bytes.len(), 0);
                }
                contents[*position..position + bytes.len()].copy_from_slice(bytes);
            }
            Change::SetLen(len) => contents.resize(*len, 0),
        }
    }

    fn change(&mut self, change: Change) {
        let len = change.len();
        Self::apply(&mut self.contents, &change, len);
        self.pending.push(change);
    }

    fn crash(&mut self, random: &mut Random) {
        let mut contents = std::mem::take(&mut self.durable);
        for change in self.pending.drain(..) {
            let len = match random.below(4) {
                0 => continue,
                1 => random.below(change.len() + 1),
                _ => change.len(),
            };
            if !matches!(change, Change::Write { .. }) || len > 0 {
                Self::apply(&mut contents, &change, len);
            }
        }
        self.durable.clone_from(&contents);
        self.contents = contents;
    }
}

impl Change {
    fn len(&self) -> usize {
        match self {
            Self::Write { bytes, .. } => bytes.len(),
            Self::SetLen(_) => 0,
        }
    }
}

impl Dir {
    fn apply(names: &mut BTreeMap<String, usize>, change: &NameChange) {
        match change {
            NameChange::Link(name, id) => {
                names.insert(name.clone(), *id);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
        }
    }

    fn change(&mut self, change: NameChange) {
        Self::apply(&mut self.names, &change);
        self.pending.push(change);
    }

    fn crash(&mut self, random: &mut Random) {
        let kept = random.below(self.pending.len() + 1);
        let mut names = std::mem::take(&mut self.durable);
        for change in self.pending.drain(..).take(kept) {
            Self::apply(&mut names, &change);
        }
        self.durable.clone_from(&names);
        self.names = names;
    }
}

impl Disk {
    /// Counts a changing operation and lets it fail when its time has come.
    fn operate(&mut self) -> Result<(), (Fault, io::Error)> {
        let now = self.operations;
        self.operations += 1;
        match self.fault {
            Some((at, fault, span)) if now == at || (now > at && span == FaultSpan::Lasting) => {
                Err((fault, fault.error()))
            }
            Some((at, Fault::Crash, _)) if now > at => Err((Fault::Crash, Fault::Crash.error())),
            _ => Ok(()),
        }
    }

    fn dir(&mut self, id: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[id] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&mut self, id: usize) -> &mut File {
        match &mut self.nodes[id] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("node {id} was opened as a file"),
        }
    }

    fn find(&mut self, path: &Path) -> io::Result<usize> {
        let mut id = 0;
        for component in path.components() {
            if let Component::Normal(name) = component {
                let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
                id = *self
                    .dir(id)?
                    .names
                    .get(name)
                    .ok_or(io::ErrorKind::NotFound)?;
            }
        }
        Ok(id)
    }

    /// The directory that holds the last name of a path, and that name.
    fn parent(&mut self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    fn link(&mut self, parent: usize, name: &str, node: Node) -> io::Result<usize> {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.dir(parent)?
            .change(NameChange::Link(name.to_owned(), id));
        Ok(id)
    }

    fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(file) => file.contents.len() as u64,
            Node::Dir(_) => 0,
        };
        self.nodes.iter().map(len).sum()
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
                file.durable.clone_from(&file.contents);
                file.pending.clear();
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

/// A small generator (xorshift64*), so that runs repeat without a dependency.
struct Random(u64);

impl Random {
    /// A number below `bound`, 0 when `bound` is 0.
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        drawn as usize % bound.max(1)
    }
}
