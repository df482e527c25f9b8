//! Random work on a file system that stops at a random operation and loses what was not synced:
//! what is found again must be a prefix of what was there, and hold everything that was durable.

use super::model::{Model, check_epochs, check_structure};
use super::*;
use crate::error::StorageError;
use crate::fs::memory::{Fault, FaultSpan, MemoryFs};

const SEEDS: u64 = 600;
const CRASHES: usize = 4;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }
}

/// The owner of a log: what it has been told, and what it has checkpointed.
struct Owner {
    disk: MemoryFs,
    fs: Arc<dyn Fs>,
    random: Random,
    /// Everything appended and not truncated, the operation under way included.
    model: Model,
    /// Records below were confirmed to be durable and not truncated since.
    durable: i64,
    recovery_point: Offset,
    log_start: Offset,
    epoch: i32,
}

impl Owner {
    fn new(seed: u64) -> Self {
        let disk = MemoryFs::new(seed);
        let fs: Arc<dyn Fs> = Arc::new(disk.clone());
        fs.create_dir(dir().parent().unwrap()).unwrap();
        fs.sync_dir(std::path::Path::new("/")).unwrap();
        Self {
            disk,
            fs,
            random: Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            model: Model::default(),
            durable: 0,
            recovery_point: Offset(0),
            log_start: Offset(0),
            epoch: 0,
        }
    }

    fn options(&self) -> OpenOptions {
        OpenOptions {
            clean_shutdown: false,
            recovery_point: self.recovery_point,
            log_start: self.log_start,
        }
    }

    /// Works until the fault strikes.
    fn work(&mut self, log: &mut Log) {
        while self.step(log).is_ok() {}
    }

    fn step(&mut self, log: &mut Log) -> Result<(), StorageError> {
        match self.random.below(20) {
            0 => self.truncate(log),
            1 => {
                let offset = Offset(self.random.below(log.end_offset().0 as u64 + 1) as i64);
                self.log_start = self.log_start.max(offset);
                log.delete_before(offset)?
                    .remove()
                    .map_err(StorageError::Io)
            }
            2..=4 => {
                let synced = log.checkpoint_handle().sync()?;
                self.meanwhile(log)?;
                log.synced(synced);
                self.durable = log.durable_end().0;
                if self.random.below(2) == 0 {
                    self.recovery_point = log.recovery_point();
                }
                Ok(())
            }
            5..=7 => {
                let synced = log.sync_handle().sync()?;
                self.meanwhile(log)?;
                log.synced(synced);
                self.durable = log.durable_end().0;
                Ok(())
            }
            _ => self.append(log),
        }
    }

    /// What may happen between a sync and its report.
    fn meanwhile(&mut self, log: &mut Log) -> Result<(), StorageError> {
        match self.random.below(8) {
            0..4 => Ok(()),
            4 => {
                self.truncate(log)?;
                self.append(log)
            }
            _ => self.append(log),
        }
    }

    fn append(&mut self, log: &mut Log) -> Result<(), StorageError> {
        self.epoch += i32::from(self.random.below(10) == 0);
        let timestamp = self.random.below(1000) as i64;
        let mut records = Vec::new();
        for _ in 0..=self.random.below(2) {
            let (count, len) = (1 + self.random.below(3), self.random.below(120));
            let seed = self.random.below(256) as u8;
            records.extend(batch(count as usize, len as usize, seed, timestamp));
        }
        let result = log.append_as_leader(&mut records, LeaderEpoch(self.epoch), NOW);
        // A failed append may have left all of its records, numbered as they are.
        self.model.append(&records);
        match result {
            Ok(info) => {
                assert_eq!(info.end_offset.0, self.model.end);
                Ok(())
            }
            Err(crate::AppendError::Storage(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    fn truncate(&mut self, log: &mut Log) -> Result<(), StorageError> {
        let start = log.start_offset().0;
        let offset = start + self.random.below((log.end_offset().0 - start) as u64 + 1) as i64;
        // Whatever happens, nothing above the batch that holds the offset has to survive.
        let first_cut = self.model.batches.iter().find(|b| b.last >= offset);
        self.durable = self.durable.min(first_cut.map_or(offset, |b| b.base));
        log.truncate_to(Offset(offset))?;
        let first = self.model.batches.iter().position(|b| b.last >= offset);
        self.model.batches.truncate(first.unwrap_or(usize::MAX));
        self.model.end = log.end_offset().0;
        self.log_start = self.log_start.min(log.start_offset());
        self.epoch += 1;
        Ok(())
    }

    /// Opens the log after a crash and checks what is left.
    fn recover(&mut self) -> Log {
        let (log, report) = open_with(&self.fs, small(), self.options())
            .unwrap_or_else(|error| panic!("durable up to {}: {error}", self.durable));
        assert!(
            log.end_offset().0 >= self.durable,
            "lost durable records: {report:?}"
        );
        let found = read_all(&log, log.start_offset());
        let expected = self.model.from(log.start_offset().0);
        let expected: Vec<_> = expected
            .take(found.len())
            .map(|b| Bytes::from(b.bytes.clone()))
            .collect();
        let offsets = |batches: &[Bytes]| -> Vec<_> {
            batches
                .iter()
                .map(|b| i64::from_be_bytes(b[..8].try_into().unwrap()))
                .collect()
        };
        assert!(
            found == expected,
            "{:?} is not {:?}",
            offsets(&found),
            offsets(&expected)
        );
        self.model.batches.retain(|b| b.last < log.end_offset().0);
        self.model.start = log.start_offset().0;
        self.model.end = log.end_offset().0;
        check_structure(&log);
        check_epochs(&log, &self.model);
        log
    }
}

#[test]
fn what_was_durable_survives_crashes_and_the_rest_is_a_prefix() {
    for seed in 1..=SEEDS {
        let mut owner = Owner::new(seed);
        let (mut log, _) = open_with(&owner.fs, small(), owner.options()).unwrap();
        for _ in 0..CRASHES {
            let after = owner.random.below(300);
            owner
                .disk
                .fail_after(after, Fault::Crash, FaultSpan::Lasting);
            owner.work(&mut log);
            owner.disk.crash();
            log = owner.recover();
        }
    }
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    for seed in 1..=SEEDS / 3 {
        let mut owner = Owner::new(seed);
        let (mut log, _) = open_with(&owner.fs, small(), owner.options()).unwrap();
        owner
            .disk
            .fail_after(40 + seed % 200, Fault::Crash, FaultSpan::Lasting);
        owner.work(&mut log);
        owner.disk.crash();
        for after in 0..6 {
            owner
                .disk
                .fail_after(after, Fault::Crash, FaultSpan::Lasting);
            let _ = open_with(&owner.fs, small(), owner.options());
            owner.disk.crash();
        }
        owner.recover();
    }
}
