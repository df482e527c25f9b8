//! The FUSE file system: every request is done below, after the faults and with a note of what it
//! changes. What the kernel keeps of names and attributes it must ask for again at once, because a
//! power loss changes them behind its back.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result as AnyResult;
use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use klamm_e2e::random::Random;
use parking_lot::Mutex;

use super::Faults;
use super::nodes::Nodes;
use super::unsynced::Unsynced;

const NO_CACHE: Duration = Duration::ZERO;
const GENERATION: Generation = Generation(0);
const BLOCK_BYTES: u32 = 4096;
/// What `statfs` says that there is, and is free unless the disk is full.
const BLOCKS: u64 = 1 << 20;
const NAME_BYTES_MAX: u32 = 255;

/// The files of a disk.
pub(super) struct State {
    nodes: Nodes,
    unsynced: Unsynced,
}

impl State {
    pub(super) fn new(files: &Path, attic: &Path) -> io::Result<Self> {
        Ok(Self {
            nodes: Nodes::new(files)?,
            unsynced: Unsynced::new(files, attic),
        })
    }

    pub(super) fn lose_power(&mut self, random: &mut Random) -> AnyResult<String> {
        let lost = self.unsynced.lose(random)?;
        self.nodes.forget_all()?;
        Ok(lost)
    }

    fn create(&mut self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.nodes.child(parent, name)?;
        let below = self.nodes.below(&path);
        File::options().write(true).create_new(true).open(&below)?;
        self.unsynced.created(&path);
        self.nodes.look_up(&path)
    }

    fn create_directory(&mut self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let path = self.nodes.child(parent, name)?;
        fs::create_dir(self.nodes.below(&path))?;
        self.unsynced.created(&path);
        self.nodes.look_up(&path)
    }

    fn write(&mut self, inode: INodeNo, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let file = Arc::clone(&self.nodes.get(inode)?.file);
        let written = data.len() as u64;
        self.unsynced
            .before_write(inode.0, &file, offset, written)?;
        Ok(file.write_all_at(data, offset)?)
    }

    fn set_len(&mut self, inode: INodeNo, len: u64) -> Result<(), Errno> {
        let file = Arc::clone(&self.nodes.get(inode)?.file);
        self.unsynced.before_set_len(inode.0, &file, len)?;
        Ok(file.set_len(len)?)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let path = self.nodes.child(parent, name)?;
        let below = self.nodes.below(&path);
        if below.is_dir() && fs::read_dir(&below)?.next().is_some() {
            return Err(Errno::ENOTEMPTY);
        }
        self.unsynced.remove(&path)?;
        self.nodes.removed(&path);
        Ok(())
    }

    fn rename(
        &mut self,
        (from_parent, from): (INodeNo, &OsStr),
        (to_parent, to): (INodeNo, &OsStr),
    ) -> Result<(), Errno> {
        let from = self.nodes.child(from_parent, from)?;
        let to = self.nodes.child(to_parent, to)?;
        self.unsynced.rename(&from, &to)?;
        self.nodes.renamed(&from, &to);
        Ok(())
    }

    fn entries(&self, inode: INodeNo) -> Result<Vec<(u64, FileType, std::ffi::OsString)>, Errno> {
        use std::os::unix::fs::DirEntryExt as _;
        let path = self.nodes.get(inode)?.path.as_ref();
        let path = path.ok_or(Errno::ENOENT)?;
        let dots = [".", ".."].map(|name| (inode.0, FileType::Directory, name.into()));
        let mut entries = Vec::from(dots);
        for entry in fs::read_dir(self.nodes.below(path))? {
            let entry = entry?;
            let kind = if entry.file_type()?.is_dir() {
                FileType::Directory
            } else {
                FileType::RegularFile
            };
            entries.push((entry.ino(), kind, entry.file_name()));
        }
        Ok(entries)
    }

    fn grows(&self, inode: INodeNo, end: u64) -> Result<bool, Errno> {
        Ok(self.nodes.attributes(inode)?.size < end)
    }
}

pub(super) struct Passthrough {
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Faults>>,
}

impl Passthrough {
    pub(super) const fn new(state: Arc<Mutex<State>>, faults: Arc<Mutex<Faults>>) -> Self {
        Self { state, faults }
    }

    /// A copy: delays are waited for without the lock.
    fn faults(&self) -> Faults {
        *self.faults.lock()
    }

    fn write_through(&self, inode: INodeNo, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let grows = self.state.lock().grows(inode, offset + data.len() as u64)?;
        self.faults().on_write(grows)?;
        self.state.lock().write(inode, offset, data)?;
        u32::try_from(data.len()).map_err(|_| Errno::EINVAL)
    }

    fn change_attributes(&self, inode: INodeNo, size: Option<u64>) -> Result<FileAttr, Errno> {
        if let Some(size) = size {
            let grows = self.state.lock().grows(inode, size)?;
            self.faults().on_write(grows)?;
            self.state.lock().set_len(inode, size)?;
        }
        self.state.lock().nodes.attributes(inode)
    }
}

fn reply_empty(outcome: Result<(), Errno>, reply: ReplyEmpty) {
    match outcome {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

fn reply_entry(outcome: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match outcome {
        Ok(attributes) => reply.entry(&NO_CACHE, &attributes, GENERATION),
        Err(error) => reply.error(error),
    }
}

fn reply_attributes(outcome: Result<FileAttr, Errno>, reply: ReplyAttr) {
    match outcome {
        Ok(attributes) => reply.attr(&NO_CACHE, &attributes),
        Err(error) => reply.error(error),
    }
}

/// The signatures are FUSE's.
impl Filesystem for Passthrough {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state.lock();
        let path = state.nodes.child(parent, name);
        let outcome = path.and_then(|path| state.nodes.look_up(&path));
        reply_entry(outcome, reply);
    }

    fn forget(&self, _: &Request, inode: INodeNo, _: u64) {
        self.state.lock().nodes.forget(inode);
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply_attributes(self.state.lock().nodes.attributes(inode), reply);
    }

    /// Owners, modes and times are of no consequence here.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        reply_attributes(self.change_attributes(inode, size), reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        let allowed = self.faults().on_create(true);
        let outcome = allowed.and_then(|()| self.state.lock().create_directory(parent, name));
        reply_entry(outcome, reply);
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        _: u32,
        _: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let allowed = self.faults().on_create(true);
        match allowed.and_then(|()| self.state.lock().create(parent, name)) {
            Ok(attributes) => {
                let (handle, flags) = (FileHandle(0), FopenFlags::empty());
                reply.created(&NO_CACHE, &attributes, GENERATION, handle, flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.state.lock().remove(parent, name), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        reply_empty(self.state.lock().remove(parent, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state.lock();
        reply_empty(state.rename((parent, name), (new_parent, new_name)), reply);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let file = self
            .state
            .lock()
            .nodes
            .get(inode)
            .map(|node| Arc::clone(&node.file));
        let read = file.and_then(|file| {
            let mut buffer = vec![0; usize::try_from(size).map_err(|_| Errno::EINVAL)?];
            let count = file.read_at(&mut buffer, offset)?;
            buffer.truncate(count);
            Ok(buffer)
        });
        match read {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_through(inode, offset, data) {
            Ok(count) => reply.written(count),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let outcome = self.faults().on_sync();
        if outcome.is_ok() {
            self.state.lock().unsynced.sync_file(inode.0);
        }
        reply_empty(outcome, reply);
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let outcome = self.faults().on_sync();
        let outcome = outcome.and_then(|()| {
            let state = &mut *self.state.lock();
            if let Some(path) = &state.nodes.get(inode)?.path {
                state.unsynced.sync_directory(path);
            }
            Ok(())
        });
        reply_empty(outcome, reply);
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let entries = match self.state.lock().entries(inode) {
            Ok(entries) => entries,
            Err(error) => return reply.error(error),
        };
        for (position, (inode, kind, name)) in (1_u64..).zip(entries) {
            if position > offset && reply.add(INodeNo(inode), position, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let free = if self.faults().full { 0 } else { BLOCKS };
        let (files, block) = (BLOCKS, BLOCK_BYTES);
        reply.statfs(
            BLOCKS,
            free,
            free,
            files,
            files,
            block,
            NAME_BYTES_MAX,
            block,
        );
    }
}
