//! A broker: its disk, which outlives its processes, and the process that runs now.
//!
//! What the shell does with tasks and locks is done here with events, one at a time; every decision
//! is the product's.

mod checkpoints;
mod deletion;
mod fetcher;
mod hosted;
mod membership;
mod process;
mod pull;
mod replication;
mod requests;
mod roles;
mod session;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;

use broker_core::{BrokerEpoch, BrokerId, Offset, TopicPartition};
use broker_log::fs::memory::{Fault, FaultSpan, MemoryFs};

use crate::check::{Close, Disk};
use crate::env::Env;
use crate::event::{BrokerTimer, Event, Peer};
use crate::quorum::SESSION_TIMEOUT;
use crate::trace::Micros;

pub(crate) use hosted::Hosted;
pub(crate) use process::Process;
use storage::{LastRun, Storage};

/// In the record of a run whose disk failed: no later one is the same boot.
const LOSSY_BOOT: u64 = u64::MAX;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// All logs are closed.
    Clean,
    /// `kill -9`: the page cache stays.
    Kill,
    /// The machine loses what was not synced.
    PowerLoss,
}

/// A process that does not run.
#[derive(Clone, Copy, Debug)]
struct Pause {
    since: Micros,
    until: Micros,
}

/// See the module's documentation.
pub(crate) struct Broker {
    pub(crate) index: usize,
    disk: MemoryFs,
    disk_state: Disk,
    pub(crate) process: Option<Process>,
    /// What the file of the last run's registration says: its epoch, and the boot it ran in.
    run_record: Option<(BrokerEpoch, u64)>,
    /// The last process closed its logs in order.
    closed_cleanly: bool,
    boot: u64,
    paused: Option<Pause>,
    held: Vec<Event>,
    /// Log ends of a broker that is down without having lost anything.
    pub(crate) ends_kept: BTreeMap<TopicPartition, Offset>,
}

impl Broker {
    pub(crate) fn new(index: usize, seed: u64) -> Self {
        Self {
            index,
            disk: MemoryFs::new(seed),
            disk_state: Disk::Sound,
            process: None,
            run_record: None,
            closed_cleanly: false,
            boot: 0,
            paused: None,
            held: Vec::new(),
            ends_kept: BTreeMap::new(),
        }
    }

    pub(crate) const fn id(&self) -> BrokerId {
        BrokerId(self.index as i32)
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.process.is_some() && self.paused.is_none()
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        if self.process.is_some() {
            return;
        }
        let me = Peer::Broker(self.index);
        let storage = match Storage::open(&self.disk, self.id(), self.disk_failed_before()) {
            Ok(storage) => storage,
            Err(failed) => {
                env.note(me, || format!("can't open its disk, tries again: {failed}"));
                self.disk.heal();
                let logs = self.ends_kept.keys().copied();
                env.check.may_have_lost(env.now, self.id(), logs);
                self.mark_lossy(None);
                env.after(300_000, Event::Start { broker: self.index });
                return;
            }
        };
        env.runs[self.index] = env.next_id() as u32;
        self.ends_kept.clear();
        self.closed_cleanly = false;
        for (id, end) in storage.found() {
            env.check.log_opened(env.now, self.id(), id, end);
        }
        for (id, start) in storage.found_starts() {
            env.check.log_starts_at(env.now, self.id(), id, start);
        }
        env.check.all_logs_opened(self.id());
        let last_run = self.last_run(storage.was_closed_cleanly());
        env.note(me, || {
            format!(
                "starts; the last run was {} and counts as {}",
                last_run.epoch, last_run.lossless_epoch
            )
        });
        self.process = Some(Process::new(self.index, storage, last_run));
        for timer in [
            BrokerTimer::Metadata,
            BrokerTimer::Heartbeat,
            BrokerTimer::Lease,
            BrokerTimer::Isr,
            BrokerTimer::Fetchers,
            BrokerTimer::Flushes,
            BrokerTimer::Checkpoint,
        ] {
            let delay = env.random.range(1_000, 20_000);
            env.timer(self.index, delay, timer);
        }
    }

    /// What the last process may have lost: nothing when it stopped cleanly, nothing either when
    /// the machine went on.
    fn last_run(&self, closed_cleanly: bool) -> LastRun {
        let (epoch, boot) = self.run_record.unwrap_or((BrokerEpoch(-1), self.boot));
        let lossless = closed_cleanly || boot == self.boot;
        LastRun {
            epoch,
            lossless_epoch: if lossless { epoch } else { BrokerEpoch(-1) },
        }
    }

    /// A failed sync may have dropped what it was to make durable.
    fn mark_lossy(&mut self, registered: Option<BrokerEpoch>) {
        let known = self.run_record.map(|(epoch, _)| epoch);
        self.run_record = registered.or(known).map(|epoch| (epoch, LOSSY_BOOT));
    }

    fn disk_failed_before(&self) -> bool {
        self.run_record.is_none_or(|(_, boot)| boot == LOSSY_BOOT)
    }

    /// Ends the process, if there is one.
    pub(crate) fn stop(&mut self, env: &mut Env, end: End) {
        let Some(mut process) = self.process.take() else {
            if end == End::PowerLoss {
                self.lose_power(env, false);
            }
            return;
        };
        env.runs[self.index] = 0;
        env.check.stopped(self.id());
        self.paused = None;
        self.held.clear();
        process.connections_break(env);
        self.closed_cleanly = end == End::Clean && process.close();
        let registered = process.registered_epoch();
        let disk_failed = process.has_failed_log();
        if disk_failed {
            self.mark_lossy(registered);
        } else if let Some(epoch) = registered {
            self.run_record = Some((epoch, self.boot));
        }
        self.ends_kept = process.log_ends();
        for hosted in process.hosted.values() {
            let close = if self.closed_cleanly {
                Close::Clean
            } else {
                Close::Unclean
            };
            env.check
                .log_stopped(self.id(), hosted, close, self.disk_state);
        }
        if end != End::PowerLoss && disk_failed {
            let logs = self.ends_kept.keys().copied();
            env.check.may_have_lost(env.now, self.id(), logs);
        }
        env.note(Peer::Broker(self.index), || match end {
            End::Clean => "stops in order",
            End::Kill => "is killed",
            End::PowerLoss => "loses power",
        });
        drop(process);
        if end == End::PowerLoss {
            self.lose_power(env, disk_failed);
        } else {
            self.disk.heal();
            self.disk_state = Disk::Sound;
        }
    }

    fn lose_power(&mut self, env: &mut Env, disk_failed: bool) {
        let mut ends = std::mem::take(&mut self.ends_kept);
        if self.closed_cleanly {
            ends.clear();
        }
        let logs = ends.into_keys();
        self.disk.crash();
        self.disk_state = Disk::Sound;
        self.boot += 1;
        env.check.power_lost(env.now, self.id(), logs, disk_failed);
    }

    pub(crate) fn pause(&mut self, env: &mut Env, lasts: Micros) {
        if self.is_running() {
            env.note(Peer::Broker(self.index), || "is paused");
            self.paused = Some(Pause {
                since: env.now,
                until: env.now + lasts,
            });
            env.after(lasts, Event::Resume { broker: self.index });
        }
    }

    pub(crate) fn resume(&mut self, env: &mut Env) {
        let Some(pause) = self.paused else {
            return;
        };
        if pause.until <= env.now || env.healed {
            env.note(Peer::Broker(self.index), || "goes on after a pause");
            self.paused = None;
            let session = SESSION_TIMEOUT.as_micros() as Micros;
            if env.now > pause.since + session {
                let image = Arc::clone(env.image());
                env.check.woke_up(self.id(), image);
            }
            for event in std::mem::take(&mut self.held) {
                env.after(0, event);
            }
        }
    }

    pub(crate) fn fail_disk(&mut self, after: u64) {
        self.disk_state = Disk::Struck;
        self.disk.fail_after(after, Fault::Io, FaultSpan::Once);
    }

    pub(crate) fn fill_disk(&mut self) {
        self.disk_state = Disk::Struck;
        self.disk.fail_after(0, Fault::NoSpace, FaultSpan::Lasting);
    }

    pub(crate) fn heal_disk(&self) {
        self.disk.heal();
    }

    /// An event of the process that runs now; a paused one sees it later.
    pub(crate) fn handle(&mut self, env: &mut Env, event: Event) {
        if self.paused.is_some() {
            self.held.push(event);
            return;
        }
        let Some(process) = &mut self.process else {
            return;
        };
        match event {
            Event::Deliver { from, message, .. } => process.handle_message(env, from, message),
            Event::BrokerTimer { timer, .. } => process.handle_timer(env, timer),
            _ => {}
        }
        process.settle(env);
        if process.may_stop() {
            self.stop(env, End::Clean);
            let down = env.random.range(50_000, 800_000);
            env.after(down, Event::Start { broker: self.index });
        }
    }

    /// Asks for a controlled shutdown; the broker starts again afterwards.
    pub(crate) fn restart(&mut self, env: &mut Env) {
        if let Some(process) = &mut self.process {
            env.note(Peer::Broker(self.index), || "wants to shut down");
            process.wants_shutdown(env.now);
        }
    }
}
