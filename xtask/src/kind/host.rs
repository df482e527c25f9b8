//! What this host grants to containers, and the kernel settings that nodes change on it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::paths;

/// Kubelets and netavark write these, and they are the whole host's.
const SYSCTLS: [&str; 7] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// The hard limits of this process, which no container started by it can exceed.
pub(crate) struct HardLimits {
    pub(crate) nofile: u64,
    pub(crate) nproc: u64,
}

pub(crate) fn hard_limits() -> Result<HardLimits> {
    let limits = fs::read_to_string("/proc/self/limits").context("cannot read the limits")?;
    let hard = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let value = line.and_then(|columns| columns.split_whitespace().nth(1));
        // The one value that is not a number is "unlimited".
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or(u64::MAX)
    };
    Ok(HardLimits {
        nofile: hard("Max open files"),
        nproc: hard("Max processes"),
    })
}

pub(crate) fn pid_max() -> Result<u64> {
    let text = fs::read_to_string("/proc/sys/kernel/pid_max")?;
    text.trim()
        .parse()
        .context("kernel.pid_max is not a number")
}

pub(crate) fn has_unified_cgroups() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// kind mounts this directory into every node, whether or not the kernel has modules.
pub(crate) fn ensure_modules_directory() -> Result<()> {
    fs::create_dir_all("/lib/modules").context("cannot create /lib/modules: run as root")
}

/// Remembers the kernel settings unless an earlier cluster already did.
pub(crate) fn save_sysctls() -> Result<()> {
    let saved = saved_sysctls()?;
    if saved.exists() {
        return Ok(());
    }
    let mut lines = String::new();
    for name in SYSCTLS {
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(name)) {
            lines += &format!("{name} {}\n", value.trim());
        }
    }
    fs::create_dir_all(saved.parent().expect("the file lies in the cache"))?;
    fs::write(&saved, lines).with_context(|| format!("cannot write {}", saved.display()))
}

/// Puts the remembered settings back; to be called when the last cluster is gone.
pub(crate) fn restore_sysctls() -> Result<()> {
    let saved = saved_sysctls()?;
    let Ok(lines) = fs::read_to_string(&saved) else {
        return Ok(());
    };
    for (name, value) in lines.lines().filter_map(|line| line.split_once(' ')) {
        let file = Path::new("/proc/sys").join(name);
        // Without root nothing was changed either.
        if fs::read_to_string(&file).is_ok_and(|current| current.trim() != value) {
            fs::write(&file, value)
                .with_context(|| format!("cannot restore {}", file.display()))?;
        }
    }
    fs::remove_file(&saved).with_context(|| format!("cannot remove {}", saved.display()))
}

fn saved_sysctls() -> Result<PathBuf> {
    Ok(paths::cache()?.join("kind/sysctls"))
}
