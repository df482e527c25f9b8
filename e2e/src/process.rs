//! Other processes by their id: signals, memory, life.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A thread may wait for a disk before it stops.
const PAUSE_LIMIT: Duration = Duration::from_secs(60);

/// Sends a signal.
///
/// # Errors
/// When the process is not there.
pub fn send_signal(pid: u32, signal: Signal) -> Result<()> {
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let id = id.with_context(|| format!("{pid} is not the id of a process"))?;
    kill_process(id, signal).with_context(|| format!("can't send {signal:?} to process {pid}"))
}

/// Sends SIGSTOP and waits until none of the process's threads runs any more: on a busy machine some go on
/// for a while.
///
/// # Errors
/// When the process is not there.
pub fn pause(pid: u32) -> Result<()> {
    send_signal(pid, Signal::STOP)?;
    wait_until("all threads have stopped", PAUSE_LIMIT, || {
        threads_run(pid).is_ok_and(|run| !run)
    })
}

fn threads_run(pid: u32) -> Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        if !state.is_some_and(|rest| rest.starts_with('T')) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the process runs; one that nobody waited for (a zombie) does not.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        // The name before it is in parentheses and may contain anything.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}

/// Memory of the process that is resident and not backed by files: mapped index files come and go
/// with the page cache, and are no part of a memory budget.
///
/// # Errors
/// When the process is not there.
pub fn anonymous_memory_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let kibibytes = line
        .and_then(|line| line.split_whitespace().nth(1))
        .and_then(|number| number.parse::<u64>().ok());
    Ok(kibibytes.context("no RssAnon in /proc/PID/status")? * 1024)
}

/// Polls until `done` holds.
///
/// # Errors
/// When it does not within `limit`; the message says what was waited for.
pub fn wait_until(what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !done() {
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain until {what}");
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Processor time that the process has taken so far.
///
/// # Errors
/// When the process is not there.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    // The name in parentheses may contain anything; user and system time are fields 14 and 15.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second))
}

/// How many files the process has open.
///
/// # Errors
/// When the process is not there.
pub fn open_files(pid: u32) -> Result<usize> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"));
    Ok(files
        .with_context(|| format!("process {pid} is gone"))?
        .count())
}

/// How many mappings of memory and files the process has.
///
/// # Errors
/// When the process is not there.
pub fn mappings(pid: u32) -> Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
    Ok(maps
        .with_context(|| format!("process {pid} is gone"))?
        .lines()
        .count())
}
