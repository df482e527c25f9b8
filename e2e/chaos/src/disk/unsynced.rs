//! What a power loss takes back: the changes since the last fsync, each with what it replaced.
//!
//! Strict POSIX: the content of a file is durable after an fsync of the file, a name after an fsync
//! of its directory. As a kernel does, changes are written back by themselves after a time; that
//! bounds what is kept here.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use klamm_e2e::random::Random;

/// Linux' dirty_expire_centisecs.
const WRITE_BACK_AGE: Duration = Duration::from_secs(30);

/// The changes that a power loss takes back.
pub(super) struct Unsynced {
    /// Names in changes are relative to it
    root: PathBuf,
    /// Where removed files wait until their removal is durable
    attic: PathBuf,
    saved: u64,
    files: HashMap<u64, FileChanges>,
    names: Vec<NameChange>,
}

struct FileChanges {
    file: Arc<File>,
    changes: Vec<Change>,
}

/// A write or a truncation.
struct Change {
    at: Instant,
    offset: u64,
    written: u64,
    /// What was there, up to the end of the file
    replaced: Vec<u8>,
    old_len: u64,
}

struct NameChange {
    at: Instant,
    kind: NameKind,
}

enum NameKind {
    Created(PathBuf),
    /// With where it is in the attic
    Removed(PathBuf, PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
}

impl Unsynced {
    pub(super) fn new(root: &Path, attic: &Path) -> Self {
        Self {
            root: root.to_owned(),
            attic: attic.to_owned(),
            saved: 0,
            files: HashMap::new(),
            names: Vec::new(),
        }
    }

    /// Notes what a write of so many bytes replaces; to be called before it.
    pub(super) fn before_write(
        &mut self,
        inode: u64,
        file: &Arc<File>,
        offset: u64,
        written: u64,
    ) -> io::Result<()> {
        let old_len = file.metadata()?.len();
        let end = old_len.min(offset + written);
        self.note(inode, file, (offset, written), (end, old_len))
    }

    /// Notes what a change of the length takes away; to be called before it.
    pub(super) fn before_set_len(
        &mut self,
        inode: u64,
        file: &Arc<File>,
        len: u64,
    ) -> io::Result<()> {
        let old_len = file.metadata()?.len();
        self.note(inode, file, (len, 0), (old_len, old_len))
    }

    fn note(
        &mut self,
        inode: u64,
        file: &Arc<File>,
        (offset, written): (u64, u64),
        (end, old_len): (u64, u64),
    ) -> io::Result<()> {
        let count = usize::try_from(end.saturating_sub(offset)).map_err(io::Error::other)?;
        let mut replaced = vec![0; count];
        file.read_exact_at(&mut replaced, offset)?;
        let changes = self.files.entry(inode).or_insert_with(|| FileChanges {
            file: Arc::clone(file),
            changes: Vec::new(),
        });
        let written_back = changes
            .changes
            .iter()
            .take_while(|change| change.at.elapsed() > WRITE_BACK_AGE)
            .count();
        changes.changes.drain(..written_back);
        changes.changes.push(Change {
            at: Instant::now(),
            offset,
            written,
            replaced,
            old_len,
        });
        Ok(())
    }

    /// The content of a file is durable.
    pub(super) fn sync_file(&mut self, inode: u64) {
        self.files.remove(&inode);
    }

    /// A file or directory was created.
    pub(super) fn created(&mut self, path: &Path) {
        self.push(NameKind::Created(path.to_owned()));
    }

    /// Removes a file or an empty directory, so that it can come back.
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let saved = self.attic.join(self.saved.to_string());
        self.saved += 1;
        fs::rename(self.root.join(path), &saved)?;
        self.push(NameKind::Removed(path.to_owned(), saved));
        Ok(())
    }

    /// Renames a file or directory; what it replaces can come back.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.root.join(to).exists() {
            self.remove(to)?;
        }
        fs::rename(self.root.join(from), self.root.join(to))?;
        let (from, to) = (from.to_owned(), to.to_owned());
        self.push(NameKind::Renamed { from, to });
        Ok(())
    }

    fn push(&mut self, kind: NameKind) {
        let at = Instant::now();
        self.names.push(NameChange { at, kind });
        while self
            .names
            .first()
            .is_some_and(|change| change.at.elapsed() > WRITE_BACK_AGE)
        {
            let change = self.names.remove(0);
            discard(&change.kind);
        }
        self.files.retain(|_, file| {
            let last = file.changes.last();
            last.is_some_and(|change| change.at.elapsed() <= WRITE_BACK_AGE)
        });
    }

    /// The names in a directory are durable.
    pub(super) fn sync_directory(&mut self, directory: &Path) {
        let mut index = 0;
        while index < self.names.len() {
            let concerns = self
                .current_parents(index)
                .iter()
                .any(|parent| parent == directory);
            if !concerns {
                index += 1;
                continue;
            }
            let change = self.names.remove(index);
            discard(&change.kind);
            index -= self.settle(&change.kind, index);
        }
    }

    /// The directories whose fsync makes a change durable, under their names of now.
    fn current_parents(&self, index: usize) -> Vec<PathBuf> {
        let paths = match &self.names[index].kind {
            NameKind::Created(path) | NameKind::Removed(path, _) => vec![path],
            NameKind::Renamed { from, to } => vec![from, to],
        };
        let parents = paths.into_iter().filter_map(|path| path.parent());
        parents
            .map(|parent| {
                let later = self.names[index + 1..].iter();
                later.fold(parent.to_owned(), |path, change| match &change.kind {
                    NameKind::Renamed { from, to } => moved(&path, from, to),
                    _ => path,
                })
            })
            .collect()
    }

    /// Adapts the changes before `index` to a durable one; returns how many of them are void.
    fn settle(&mut self, durable: &NameKind, index: usize) -> usize {
        let earlier = self.names.drain(..index).collect::<Vec<_>>();
        let mut kept = Vec::new();
        for mut change in earlier {
            match (&mut change.kind, durable) {
                (
                    NameKind::Created(path) | NameKind::Removed(path, _),
                    NameKind::Renamed { from, to },
                ) => *path = moved(path, from, to),
                (NameKind::Renamed { from: a, to: b }, NameKind::Renamed { from, to }) => {
                    *a = moved(a, from, to);
                    *b = moved(b, from, to);
                }
                (
                    NameKind::Created(path)
                    | NameKind::Removed(path, _)
                    | NameKind::Renamed { to: path, .. },
                    NameKind::Removed(gone, _),
                ) if path.starts_with(gone) => {
                    discard(&change.kind);
                    continue;
                }
                _ => {}
            }
            kept.push(change);
        }
        let void = index - kept.len();
        self.names.splice(0..0, kept);
        void
    }

    /// Takes back what a power loss loses: everything, or from a random change on.
    ///
    /// # Errors
    /// When the files can't be changed.
    pub(super) fn lose(&mut self, random: &mut Random) -> io::Result<String> {
        let everything = random.within(0..2) == 0;
        let cut = |random: &mut Random, count: usize| {
            if everything {
                return 0;
            }
            let cut = random.within(0..count as u64 + 1);
            usize::try_from(cut).expect("at most the count")
        };
        let mut files = 0;
        let mut inodes: Vec<_> = self.files.drain().collect();
        inodes.sort_by_key(|(inode, _)| *inode);
        for (_, FileChanges { file, mut changes }) in inodes {
            let kept = cut(random, changes.len());
            files += usize::from(kept < changes.len());
            while changes.len() > kept {
                let torn = !everything && changes.len() == kept + 1;
                if let Some(change) = changes.pop() {
                    change.take_back(&file, torn.then_some(&mut *random))?;
                }
            }
        }
        let kept = cut(random, self.names.len());
        let names = self.names.len() - kept;
        while self.names.len() > kept {
            if let Some(change) = self.names.pop() {
                self.take_back(&change.kind)?;
            }
        }
        for change in self.names.drain(..) {
            discard(&change.kind);
        }
        let how = if everything { "all" } else { "a part" };
        Ok(format!(
            "{how} of what was unsynced: in {files} files, {names} names"
        ))
    }

    fn take_back(&self, change: &NameKind) -> io::Result<()> {
        let at = |path: &Path| self.root.join(path);
        let outcome = match change {
            NameKind::Created(path) if at(path).is_dir() => fs::remove_dir_all(at(path)),
            NameKind::Created(path) => fs::remove_file(at(path)),
            NameKind::Removed(path, saved) => fs::rename(saved, at(path)),
            NameKind::Renamed { from, to } => fs::rename(at(to), at(from)),
        };
        match outcome {
            // It was in a directory that is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

impl Change {
    /// Puts back what was there; of a torn write, a part stays.
    fn take_back(self, file: &File, torn: Option<&mut Random>) -> io::Result<()> {
        let mut part = Vec::new();
        if let Some(random) = torn {
            let count = random.within(0..self.written + 1);
            part = vec![0; usize::try_from(count).map_err(io::Error::other)?];
            // A later change, taken back already, may have ended the file before.
            let read = file.read_at(&mut part, self.offset)?;
            part.truncate(read);
        }
        file.set_len(self.old_len)?;
        file.write_all_at(&self.replaced, self.offset)?;
        file.write_all_at(&part, self.offset)
    }
}

/// Where a path is after a rename.
pub(super) fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        // Joining nothing would add a slash.
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

/// Frees what a change kept.
fn discard(change: &NameKind) {
    if let NameKind::Removed(_, saved) = change {
        // A directory that was removed is empty.
        let _ = fs::remove_file(saved).or_else(|_| fs::remove_dir(saved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        directory: tempfile::TempDir,
        unsynced: Unsynced,
    }

    impl Bench {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let (root, attic) = (
                directory.path().join("files"),
                directory.path().join("attic"),
            );
            fs::create_dir_all(&root).unwrap();
            fs::create_dir_all(&attic).unwrap();
            let unsynced = Unsynced::new(&root, &attic);
            Self {
                directory,
                unsynced,
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join("files").join(name)
        }

        fn create(&mut self, name: &str) -> Arc<File> {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(self.path(name));
            self.unsynced.created(Path::new(name));
            Arc::new(file.unwrap())
        }

        fn append(&mut self, file: &Arc<File>, text: &str) {
            let len = file.metadata().unwrap().len();
            self.unsynced
                .before_write(1, file, len, text.len() as u64)
                .unwrap();
            file.write_all_at(text.as_bytes(), len).unwrap();
        }

        /// Seeds are tried until one loses everything.
        fn lose_everything(&mut self) {
            let seed = (0..).find(|seed| Random::from_seed(*seed).within(0..2) == 0);
            let mut random = Random::from_seed(seed.unwrap());
            self.unsynced.lose(&mut random).unwrap();
        }

        fn text(&self, name: &str) -> Option<String> {
            fs::read_to_string(self.path(name)).ok()
        }
    }

    #[test]
    fn what_was_synced_stays_and_the_rest_goes() {
        let mut bench = Bench::new();
        let file = bench.create("a");
        bench.append(&file, "one");
        bench.unsynced.sync_file(1);
        bench.unsynced.sync_directory(Path::new(""));
        bench.append(&file, "two");
        bench.unsynced.before_set_len(1, &file, 1).unwrap();
        file.set_len(1).unwrap();
        bench.append(&file, "three");
        bench.lose_everything();
        assert_eq!(bench.text("a").unwrap(), "one");
    }

    #[test]
    fn a_file_is_lost_with_its_name() {
        let mut bench = Bench::new();
        let file = bench.create("a");
        bench.append(&file, "one");
        bench.unsynced.sync_file(1);
        bench.lose_everything();
        assert_eq!(bench.text("a"), None);
    }

    #[test]
    fn removed_and_replaced_files_come_back() {
        let mut bench = Bench::new();
        for name in ["a", "b", "c"] {
            let file = bench.create(name);
            file.write_all_at(name.as_bytes(), 0).unwrap();
        }
        bench.unsynced.sync_directory(Path::new(""));
        bench.unsynced.remove(Path::new("a")).unwrap();
        bench
            .unsynced
            .rename(Path::new("b"), Path::new("c"))
            .unwrap();
        assert_eq!(bench.text("c").unwrap(), "b");
        bench.lose_everything();
        for name in ["a", "b", "c"] {
            assert_eq!(bench.text(name).unwrap(), name);
        }
    }

    #[test]
    fn a_directory_that_was_renamed_takes_its_changes_along() {
        let mut bench = Bench::new();
        fs::create_dir(bench.path("d")).unwrap();
        bench.create("d/x");
        bench
            .unsynced
            .rename(Path::new("d"), Path::new("e"))
            .unwrap();
        bench.unsynced.sync_directory(Path::new(""));
        bench.lose_everything();
        assert_eq!(bench.text("e/x"), None, "its creation was not durable");
        bench.create("e/y");
        bench.unsynced.sync_directory(Path::new("e"));
        bench.lose_everything();
        assert!(bench.text("e/y").is_some());
    }

    #[test]
    fn a_part_of_the_changes_is_a_prefix_that_may_end_within_one() {
        for seed in 0..40 {
            let mut bench = Bench::new();
            let file = bench.create("a");
            bench.unsynced.sync_directory(Path::new(""));
            for text in ["one", "two", "three"] {
                bench.append(&file, text);
            }
            let mut random = Random::from_seed(seed);
            bench.unsynced.lose(&mut random).unwrap();
            let left = bench.text("a").unwrap();
            assert!("onetwothree".starts_with(&left), "{left:?}");
        }
    }
}
