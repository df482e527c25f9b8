//! A broker's disk: a FUSE mount over a directory that fails, fills up, slows down and loses what
//! was not synced, on demand.
//!
//! Nothing in this process may touch the mounted side: it would wait for itself.

mod faults;
mod filesystem;
mod nodes;
mod unsynced;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use fuser::{BackgroundSession, Config, MountOption};
use klamm_e2e::random::Random;
use parking_lot::Mutex;

pub(crate) use faults::Faults;
use filesystem::{Passthrough, State};

/// Requests served at a time: a slow fsync does not keep reads waiting.
const THREADS: usize = 4;

/// A mounted disk; it is unmounted with the mount namespace of this process.
pub(crate) struct Disk {
    mount: PathBuf,
    state: Arc<Mutex<State>>,
    faults: Arc<Mutex<Faults>>,
    _session: BackgroundSession,
}

impl Disk {
    /// Mounts an empty disk at `directory/mnt` whose files lie in `directory/files`.
    ///
    /// # Errors
    /// When FUSE can't be mounted.
    pub(crate) fn mount(directory: &Path) -> Result<Self> {
        let mount = directory.join("mnt");
        let files = directory.join("files");
        let attic = directory.join("attic");
        for path in [&mount, &files, &attic] {
            fs::create_dir_all(path)?;
        }
        let state = Arc::new(Mutex::new(State::new(&files, &attic)?));
        let faults = Arc::new(Mutex::new(Faults::default()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("klamm-chaos".to_owned())];
        config.n_threads = Some(THREADS);
        let filesystem = Passthrough::new(Arc::clone(&state), Arc::clone(&faults));
        let session = fuser::spawn_mount(filesystem, &mount, &config)
            .with_context(|| format!("can't mount a FUSE file system at {}", mount.display()))?;
        Ok(Self {
            mount,
            state,
            faults,
            _session: session,
        })
    }

    /// Where the broker's data goes.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Makes the disk fail like this from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Takes back what was not synced: all of it, or a random part of the latest changes of each
    /// file and of the names. Nobody may have the disk in use.
    ///
    /// # Errors
    /// When the directory below can't be changed.
    pub(crate) fn lose_power(&self, random: &mut Random) -> Result<String> {
        self.state.lock().lose_power(random)
    }
}
