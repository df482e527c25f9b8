//! The inodes that the kernel knows, each with an open file below, so that a file that was removed
//! can still be read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, FileAttr, FileType, INodeNo};

use super::unsynced::moved;

/// A file or directory; `path` is relative to the root, and `None` when it was removed.
pub(super) struct Node {
    pub(super) path: Option<PathBuf>,
    pub(super) file: Arc<File>,
}

pub(super) struct Nodes {
    root: PathBuf,
    nodes: HashMap<u64, Node>,
}

impl Nodes {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        let mut nodes = Self {
            root: root.to_owned(),
            nodes: HashMap::new(),
        };
        nodes.forget_all()?;
        Ok(nodes)
    }

    /// Begins anew with the root: names have changed below.
    pub(super) fn forget_all(&mut self) -> io::Result<()> {
        self.nodes.clear();
        let root = Node {
            path: Some(PathBuf::new()),
            file: Arc::new(File::open(&self.root)?),
        };
        self.nodes.insert(INodeNo::ROOT.0, root);
        Ok(())
    }

    /// Where a path is below.
    pub(super) fn below(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The path of a name in a directory.
    pub(super) fn child(&self, parent: INodeNo, name: &std::ffi::OsStr) -> Result<PathBuf, Errno> {
        let parent = self.get(parent)?.path.as_ref().ok_or(Errno::ENOENT)?;
        Ok(parent.join(name))
    }

    pub(super) fn get(&self, inode: INodeNo) -> Result<&Node, Errno> {
        self.nodes.get(&inode.0).ok_or(Errno::ESTALE)
    }

    /// Finds what is at a path.
    pub(super) fn look_up(&mut self, path: &Path) -> Result<FileAttr, Errno> {
        let below = self.below(path);
        let metadata = std::fs::symlink_metadata(&below)?;
        let inode = metadata.ino();
        match self.nodes.entry(inode) {
            Entry::Occupied(node) => node.into_mut().path = Some(path.to_owned()),
            Entry::Vacant(vacant) => {
                let file = File::options()
                    .read(true)
                    .write(metadata.is_file())
                    .open(&below)?;
                vacant.insert(Node {
                    path: Some(path.to_owned()),
                    file: Arc::new(file),
                });
            }
        }
        Ok(attributes(INodeNo(inode), &metadata))
    }

    pub(super) fn attributes(&self, inode: INodeNo) -> Result<FileAttr, Errno> {
        let metadata = self.get(inode)?.file.metadata()?;
        Ok(attributes(inode, &metadata))
    }

    /// What was at a path has gone.
    pub(super) fn removed(&mut self, path: &Path) {
        for node in self.nodes.values_mut() {
            if node.path.as_deref() == Some(path) {
                node.path = None;
            }
        }
    }

    pub(super) fn renamed(&mut self, from: &Path, to: &Path) {
        self.removed(to);
        for node in self.nodes.values_mut() {
            if let Some(path) = &mut node.path {
                *path = moved(path, from, to);
            }
        }
    }

    /// The kernel has no use for an inode any more. Those that have names are kept: after a power
    /// loss the kernel and this table count differently.
    pub(super) fn forget(&mut self, inode: INodeNo) {
        if self.get(inode).is_ok_and(|node| node.path.is_none()) {
            self.nodes.remove(&inode.0);
        }
    }
}

fn attributes(inode: INodeNo, metadata: &Metadata) -> FileAttr {
    let changed = UNIX_EPOCH + Duration::from_secs(metadata.ctime().unsigned_abs());
    FileAttr {
        ino: inode,
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: metadata.accessed().unwrap_or(UNIX_EPOCH),
        mtime: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        ctime: changed,
        crtime: changed,
        kind: if metadata.is_dir() {
            FileType::Directory
        } else {
            FileType::RegularFile
        },
        // Without those of the file's type
        perm: u16::try_from(metadata.permissions().mode() & 0o7777).expect("twelve bits"),
        nlink: u32::try_from(metadata.nlink()).unwrap_or(1),
        uid: metadata.uid(),
        gid: metadata.gid(),
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
