//! What the in-memory file system remembers: contents as they are seen, contents that are durable,
//! and the changes in between.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::{Fault, FaultSpan};

pub(super) struct Disk {
    /// Never reused; the first is the root.
    pub(super) nodes: Vec<Node>,
    pub(super) random: Random,
    pub(super) operations: u64,
    pub(super) fault: Option<(u64, Fault, FaultSpan)>,
    pub(super) capacity: u64,
    pub(super) locks: Vec<usize>,
}

#[derive(Clone)]
pub(super) enum Node {
    File(File),
    Dir(Dir),
}

#[derive(Clone, Default)]
pub(super) struct File {
    pub(super) contents: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) pending: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { position: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Default)]
pub(super) struct Dir {
    pub(super) names: BTreeMap<String, usize>,
    pub(super) durable: BTreeMap<String, usize>,
    pub(super) pending: Vec<NameChange>,
}

#[derive(Clone)]
pub(super) enum NameChange {
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

    pub(super) fn change(&mut self, change: Change) {
        let len = change.len();
        Self::apply(&mut self.contents, &change, len);
        self.pending.push(change);
    }

    /// What an earlier sync failed to write stays lost, though it is still seen.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            Self::apply(&mut self.durable, &change, change.len());
        }
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
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

    pub(super) fn change(&mut self, change: NameChange) {
        Self::apply(&mut self.names, &change);
        self.pending.push(change);
    }

    pub(super) fn crash(&mut self, random: &mut Random) {
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
    pub(super) fn operate(&mut self) -> Result<(), (Fault, io::Error)> {
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

    pub(super) fn dir(&mut self, id: usize) -> io::Result<&mut Dir> {
        match &mut self.nodes[id] {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&mut self, id: usize) -> &mut File {
        match &mut self.nodes[id] {
            Node::File(file) => file,
            Node::Dir(_) => panic!("node {id} was opened as a file"),
        }
    }

    pub(super) fn find(&mut self, path: &Path) -> io::Result<usize> {
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
    pub(super) fn parent(&mut self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.find(parent)?, name))
    }

    pub(super) fn link(&mut self, parent: usize, name: &str, node: Node) -> io::Result<usize> {
        self.nodes.push(node);
        let id = self.nodes.len() - 1;
        self.dir(parent)?
            .change(NameChange::Link(name.to_owned(), id));
        Ok(id)
    }

    pub(super) fn used(&self) -> u64 {
        let len = |node: &Node| match node {
            Node::File(file) => file.contents.len() as u64,
            Node::Dir(_) => 0,
        };
        self.nodes.iter().map(len).sum()
    }
}

/// A small generator (xorshift64*), so that runs repeat without a dependency.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below `bound`, 0 when `bound` is 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        drawn as usize % bound.max(1)
    }
}
