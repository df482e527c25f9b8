//! Compacted partitions: what is refused, what stays, and what a restart knows of it.

use broker_core::partition::{Acks, SequenceVerdict, SequencedBatch};
use broker_core::{Duration, LeaderEpoch, ProducerEpoch, ProducerId};
use broker_log::{CompactionConfig, LogConfig, MinOneBatch, Pace, Stopped};
use broker_wire::record::{BatchBuilder, BatchHeader, NewRecord, RecordBatch, batches};
use bytes::BytesMut;

use super::super::super::{AppendError, ProducedBatch};
use super::*;

const SEGMENT_BYTES: u64 = 4 << 10;

pub(super) struct Unhurried;

impl Pace for Unhurried {
    fn spend(&mut self, _bytes: usize) -> Result<(), Stopped> {
        Ok(())
    }
}

/// The only replica of a compacted partition, on a disk that outlives it.
struct Leader {
    storage: Storage,
    partition: Arc<Partition>,
}

impl Leader {
    fn start(disks: &Disks) -> Self {
        let mut storage = disks.start().unwrap();
        let hour = Duration::from_millis(3_600_000);
        storage.shared.lease.accept(crate::clock::now(), hour);
        let partition = open(&mut storage, 0).unwrap();
        {
            let mut state = partition.state.lock();
            state.config.log = LogConfig {
                segment_bytes: SEGMENT_BYTES,
                compaction: Some(CompactionConfig::default()),
                ..LogConfig::default()
            };
            let config = state.config.log.clone();
            state.log.set_config(config);
        }
        let image = PartitionImage::from(&metadata::Partition {
            replicas: vec![ME.0],
            isr: vec![ME.0],
            leader: ME.0,
            leader_epoch: 1,
            ..metadata::Partition::default()
        });
        partition.assign(ME, &Arc::new(image));
        Self { storage, partition }
    }

    fn append(&self, producer: i64, sequence: i32, key: Option<&[u8]>) -> Result<(), AppendError> {
        let mut builder = BatchBuilder::new(0).producer(producer, 0, sequence);
        builder.append(&NewRecord {
            timestamp: 1,
            key,
            value: Some(&[7; 100]),
            headers: &[],
        });
        let bytes = BytesMut::from(&builder.build().unwrap()[..]);
        let batch = ProducedBatch {
            header: BatchHeader::parse(&bytes).unwrap(),
            bytes,
            leader_epoch: None,
            guard: None,
        };
        self.partition.append(batch, Acks::Leader).map(drop)
    }

    fn checkpoint(&self) {
        self.partition.checkpoint();
        self.storage
            .write_checkpoints(&[Arc::clone(&self.partition)]);
    }

    /// Keys and offsets of all records.
    fn records(&self) -> Vec<(Vec<u8>, i64)> {
        let state = self.partition.state.lock();
        let (mut next, end) = (state.log.start_offset(), state.log.end_offset());
        let mut records = Vec::new();
        while let Some(slice) = state.log.read(next, end, 1, MinOneBatch::Yes).unwrap() {
            let bytes = slice.read_verified().unwrap();
            for batch in batches(&bytes) {
                let (header, bytes) = batch.unwrap();
                next = Offset(header.next_offset());
                for record in RecordBatch::open(bytes, 1 << 20).unwrap().records() {
                    let record = record.unwrap();
                    records.push((record.key.unwrap().to_vec(), record.offset));
                }
            }
        }
        records
    }

    fn compacted_upto(&self) -> Offset {
        self.partition.state.lock().log.compacted_upto()
    }
}

#[test]
fn a_compacted_partition_refuses_records_without_keys() {
    let disks = Disks::new(1);
    let leader = Leader::start(&disks);
    leader.append(1, 0, Some(b"a")).unwrap();
    let refused = leader.append(1, 1, None);
    assert!(matches!(refused, Err(AppendError::NoKey { index: 0 })));
    assert_eq!(leader.records(), [(b"a".to_vec(), 0)]);
}

#[test]
fn what_was_compacted_and_who_produced_it_is_known_after_a_restart() {
    let disks = Disks::new(1);
    let leader = Leader::start(&disks);
    leader.append(9, 0, Some(b"once")).unwrap();
    for sequence in 0..200 {
        let key = [b'a' + (sequence % 3) as u8];
        leader.append(1, sequence, Some(&key)).unwrap();
    }
    // Its record is not the last of its key; its batch is its producer's last.
    leader.append(8, 0, Some(b"a")).unwrap();
    for sequence in 200..400 {
        let key = [b'a' + (sequence % 3) as u8];
        leader.append(1, sequence, Some(&key)).unwrap();
    }
    leader.checkpoint();
    let before = leader.records();
    let pass = leader.partition.compact(1 << 20, &mut Unhurried);
    let pass = pass.unwrap().expect("the log is dirty");
    assert!(pass.report().bytes_after < pass.report().bytes_before / 4);
    let after = leader.records();
    let latest = |records: &[(Vec<u8>, i64)]| records.iter().cloned().collect::<BTreeMap<_, _>>();
    assert_eq!(latest(&after), latest(&before));
    assert!(after.len() < 100, "{} records are left", after.len());
    let idle = leader.partition.compact(1 << 20, &mut Unhurried);
    assert!(idle.unwrap().is_none(), "nothing is dirty");
    leader.checkpoint();
    let compacted_upto = leader.compacted_upto();
    assert_eq!(compacted_upto, pass.compacted_upto());
    drop(leader);

    disks.remove_snapshots();
    let leader = Leader::start(&disks);
    assert_eq!(leader.compacted_upto(), compacted_upto);
    assert_eq!(leader.records(), after);
    let producers = leader.partition.state.lock().replica.producers().clone();
    for (id, sequence) in [(9, 0), (8, 0), (1, 399)] {
        let repeated = SequencedBatch {
            producer_id: ProducerId(id),
            producer_epoch: ProducerEpoch(0),
            first_sequence: sequence,
            last_sequence: sequence,
            transactional: false,
        };
        let verdict = producers.check(&repeated).unwrap();
        let duplicate = matches!(verdict, SequenceVerdict::Duplicate { .. });
        assert!(duplicate, "producer {id}: {verdict:?}");
    }
    assert_eq!(leader.partition.leader_epoch(), LeaderEpoch(1));
}
