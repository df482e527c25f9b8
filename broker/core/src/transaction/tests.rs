//! One coordinator, driven by hand.

use alloc::vec;

use super::*;
use crate::{PartitionIndex, Timestamp};

const CONFIG: Config = Config {
    timeout_max: Duration::from_secs(900),
    id_expiration: Duration::from_secs(1_000),
};
const NOW: Timestamp = Timestamp(1_000_000);

fn coordinator() -> Transactions {
    Transactions::new(CONFIG, CoordinatorEpoch(4))
}

fn request(expected: Option<Producer>) -> InitRequest {
    InitRequest {
        id: "id".into(),
        timeout: Duration::from_secs(60),
        expected,
    }
}

fn partition(index: i32) -> TransactionTopicPartition {
    ("t".into(), PartitionIndex(index))
}

const fn producer(id: i64, epoch: i16) -> Producer {
    Producer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    }
}

fn store<T>(transactions: &mut Transactions, decision: Decision<T>) -> T {
    match decision {
        Decision::Answer(answer) => answer,
        Decision::Store { record, answer } => {
            transactions.begin(&record);
            transactions.apply(&record);
            answer
        }
    }
}

fn init(transactions: &mut Transactions, expected: Option<Producer>) -> Producer {
    let outcome = transactions.decide_init(NOW, &request(expected), Some(ProducerId(70)));
    match outcome.unwrap() {
        InitOutcome::Decided(decision) => store(transactions, decision),
        other => panic!("{other:?}"),
    }
}

fn add(transactions: &mut Transactions, producer: Producer, index: i32) {
    let decision = transactions.decide_add(NOW, "id", producer, vec![partition(index)]);
    store(transactions, decision.unwrap());
}

fn end(
    transactions: &mut Transactions,
    producer: Producer,
    outcome: TransactionOutcome,
    protocol: Protocol,
) -> Result<Producer, TransactionError> {
    let request = EndRequest {
        id: "id".into(),
        producer,
        outcome,
        protocol,
    };
    match transactions.decide_end(NOW, &request, Some(ProducerId(80)))? {
        Ended::Decided(decision) => Ok(store(transactions, decision)),
        Ended::NeedsProducerId => panic!("one was given"),
    }
}

fn complete(transactions: &mut Transactions) {
    let record = transactions.complete(NOW, "id").unwrap();
    transactions.apply(&record);
}

use Protocol::{V1, V2};
use TransactionOutcome::{Abort, Commit};

#[test]
fn a_transaction_begins_with_its_first_partition_and_ends_when_all_have_their_marker() {
    let mut transactions = coordinator();
    assert_eq!(
        transactions.decide_init(NOW, &request(None), None),
        Ok(InitOutcome::NeedsProducerId)
    );
    let p = init(&mut transactions, None);
    assert_eq!(p, producer(70, 0));
    add(&mut transactions, p, 1);
    add(&mut transactions, p, 2);
    assert_eq!(transactions.describe("id").unwrap().started_at, NOW);
    assert_eq!(end(&mut transactions, p, Commit, V1), Ok(p));
    let prepared = transactions.prepared("id").unwrap();
    assert_eq!(prepared.partitions, [partition(1), partition(2)]);
    assert_eq!(prepared.marker.outcome, Commit);
    assert_eq!(prepared.marker.producer_epoch, ProducerEpoch(0));
    assert_eq!(prepared.marker.coordinator_epoch, CoordinatorEpoch(4));
    let busy = Err(TransactionError::Concurrent);
    assert_eq!(end(&mut transactions, p, Commit, V1), busy);
    complete(&mut transactions);
    assert_eq!(transactions.prepared("id"), None);
    assert_eq!(end(&mut transactions, p, Commit, V1), Ok(p), "repeated");
    assert_eq!(
        end(&mut transactions, p, Abort, V1),
        Err(TransactionError::InvalidState)
    );
    assert!(transactions.describe("id").unwrap().partitions.is_empty());
}

#[test]
fn the_epoch_rises_with_every_end_by_the_second_protocol() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    add(&mut transactions, p, 1);
    let next = end(&mut transactions, p, Commit, V2).unwrap();
    assert_eq!(next, producer(70, 1));
    let marker = transactions.prepared("id").unwrap().marker;
    assert_eq!(
        marker.producer_epoch,
        ProducerEpoch(1),
        "fences late records"
    );
    assert_eq!(
        end(&mut transactions, p, Commit, V2),
        Err(TransactionError::Concurrent)
    );
    complete(&mut transactions);
    assert_eq!(end(&mut transactions, p, Commit, V2), Ok(next), "repeated");
    assert_eq!(
        end(&mut transactions, p, Abort, V2),
        Err(TransactionError::InvalidState)
    );
    add(&mut transactions, next, 1);
    assert_eq!(
        end(&mut transactions, p, Abort, V2),
        Err(TransactionError::Fenced),
        "a late copy does not end the next transaction"
    );
    assert_eq!(end(&mut transactions, next, Abort, V2), Ok(producer(70, 2)));
    complete(&mut transactions);
    let emptied = end(&mut transactions, producer(70, 2), Abort, V2);
    assert_eq!(emptied, Ok(producer(70, 3)), "of nothing");
}

/// franz-go aborts at once what its group took away from it, and took the refusal for the end of its
/// producer.
#[test]
fn a_transaction_could_not_be_aborted_while_the_markers_of_the_one_before_were_written() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    add(&mut transactions, p, 1);
    let next = end(&mut transactions, p, Commit, V2).unwrap();
    let busy = Err(TransactionError::Concurrent);
    assert_eq!(end(&mut transactions, next, Abort, V2), busy);
    complete(&mut transactions);
    let after = end(&mut transactions, next, Abort, V2);
    assert_eq!(after, Ok(producer(70, 2)));
}

#[test]
fn a_new_producer_aborts_what_the_one_before_has_begun_and_fences_it() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    add(&mut transactions, p, 1);
    let outcome = transactions.decide_init(NOW, &request(None), None);
    let Ok(InitOutcome::Abort(record)) = outcome else {
        panic!("{outcome:?}");
    };
    transactions.begin(&record);
    assert_eq!(
        end(&mut transactions, p, Commit, V1),
        Err(TransactionError::Concurrent)
    );
    transactions.apply(&record);
    for protocol in [V1, V2] {
        assert_eq!(
            end(&mut transactions, p, Abort, protocol),
            Err(TransactionError::Fenced)
        );
    }
    let marker = transactions.prepared("id").unwrap().marker;
    assert_eq!(
        (marker.producer_epoch, marker.outcome),
        (ProducerEpoch(1), Abort)
    );
    assert_eq!(
        transactions.decide_init(NOW, &request(None), None),
        Err(TransactionError::Concurrent)
    );
    complete(&mut transactions);
    assert_eq!(init(&mut transactions, None), producer(70, 2));
}

#[test]
fn a_producer_that_recovers_keeps_its_id_and_repeats_itself_safely() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    let bumped = init(&mut transactions, Some(p));
    assert_eq!(bumped, producer(70, 1));
    assert_eq!(init(&mut transactions, Some(p)), bumped, "repeated");
    let stranger = request(Some(producer(70, 9)));
    assert_eq!(
        transactions.decide_init(NOW, &stranger, None),
        Err(TransactionError::Fenced)
    );
    assert_eq!(init(&mut transactions, None), producer(70, 2));
    assert_eq!(
        transactions.decide_init(NOW, &request(Some(bumped)), None),
        Err(TransactionError::Fenced),
        "another one took over"
    );
}

#[test]
fn used_up_epochs_bring_another_producer_id() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    let mut last = transactions.describe("id").unwrap().clone();
    last.producer_epoch = ProducerEpoch(EPOCH_EXHAUSTED.0 - 1);
    transactions.apply(&TransactionRecord {
        id: "id".into(),
        value: Some(last),
    });
    let old = Producer {
        epoch: ProducerEpoch(EPOCH_EXHAUSTED.0 - 1),
        ..p
    };
    let mut by_init = transactions.clone();
    assert_eq!(init(&mut by_init, Some(old)), producer(70, 0));
    assert_eq!(init(&mut by_init, Some(old)), producer(70, 0), "repeated");

    add(&mut transactions, old, 1);
    assert_eq!(end(&mut transactions, old, Commit, V2), Ok(producer(80, 0)));
    let marker = transactions.prepared("id").unwrap().marker;
    assert_eq!(
        (marker.producer_id, marker.producer_epoch),
        (p.id, EPOCH_EXHAUSTED)
    );
    complete(&mut transactions);
    assert_eq!(
        transactions.describe("id").unwrap().producer(),
        producer(80, 0)
    );
    assert_eq!(
        end(&mut transactions, old, Commit, V2),
        Ok(producer(80, 0)),
        "repeated"
    );
}

#[test]
fn a_partition_leader_hears_whether_its_partition_belongs_to_the_transaction() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    let verify =
        |transactions: &Transactions, index| transactions.verify("id", p, &partition(index));
    assert_eq!(
        verify(&transactions, 1),
        Err(TransactionError::NotInTransaction)
    );
    add(&mut transactions, p, 1);
    assert_eq!(verify(&transactions, 1), Ok(()));
    assert_eq!(
        verify(&transactions, 2),
        Err(TransactionError::NotInTransaction)
    );
    end(&mut transactions, p, Commit, V1).unwrap();
    assert_eq!(verify(&transactions, 1), Err(TransactionError::Concurrent));
    complete(&mut transactions);
    assert_eq!(
        verify(&transactions, 1),
        Err(TransactionError::NotInTransaction)
    );
    let other = producer(71, 0);
    assert_eq!(
        transactions.verify("id", other, &partition(1)),
        Err(TransactionError::UnknownProducerId)
    );
}

#[test]
fn time_aborts_transactions_and_forgets_ids() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    add(&mut transactions, p, 1);
    assert_eq!(transactions.timed_out(Timestamp(NOW.0 + 60_000)), []);
    let late = Timestamp(NOW.0 + 60_001);
    let records = transactions.timed_out(late);
    assert_eq!(records.len(), 1);
    assert_eq!(transactions.expired(Timestamp(i64::MAX)), [], "ongoing");
    transactions.apply(&records[0]);
    assert_eq!(transactions.prepared("id").unwrap().marker.outcome, Abort);
    complete(&mut transactions);
    let unused = Timestamp(NOW.0 + 1_000_001);
    let tombstones = transactions.expired(unused);
    assert_eq!(tombstones.len(), 1);
    transactions.begin(&tombstones[0]);
    assert_eq!(transactions.expired(unused), [], "under way");
    transactions.apply(&tombstones[0]);
    assert_eq!(transactions.describe("id"), None);
}

#[test]
fn what_time_brings_comes_in_bounded_portions() {
    let mut transactions = coordinator();
    for n in 0..=RECORDS_MAX {
        let first = InitRequest {
            id: alloc::format!("id-{n}").into(),
            ..request(None)
        };
        let fresh = Some(ProducerId(n as i64));
        match transactions.decide_init(NOW, &first, fresh).unwrap() {
            InitOutcome::Decided(decision) => _ = store(&mut transactions, decision),
            other => panic!("{other:?}"),
        }
    }
    let tombstones = transactions.expired(Timestamp(i64::MAX));
    assert_eq!(tombstones.len(), RECORDS_MAX);
    tombstones
        .iter()
        .for_each(|record| transactions.begin(record));
    assert_eq!(transactions.expired(Timestamp(i64::MAX)).len(), 1);
}

#[test]
fn a_transaction_takes_no_more_partitions_than_its_records_have_room_for() {
    let mut transactions = coordinator();
    let p = init(&mut transactions, None);
    let long = |n: usize| -> TransactionTopicPartition {
        let name = alloc::format!("{n:0>249}");
        (name.into(), PartitionIndex(0))
    };
    let most = PARTITIONS_BYTES_MAX / (249 + 11 + 4);
    let add = |transactions: &mut Transactions, partitions: Vec<_>| {
        let decision = transactions.decide_add(NOW, "id", p, partitions)?;
        store(transactions, decision);
        Ok(())
    };
    assert_eq!(
        add(&mut transactions, (0..most).map(long).collect()),
        Ok(())
    );
    let full = Err(TransactionError::LimitExceeded);
    assert_eq!(add(&mut transactions, vec![long(most)]), full);
    let of_one_topic = (0..10_000).map(|index| ("t".into(), PartitionIndex(index)));
    assert_eq!(add(&mut transactions, of_one_topic.collect()), full);
    assert!(end(&mut transactions, p, Commit, V2).is_ok());
}

#[test]
fn the_memory_of_all_ids_together_is_bounded_and_given_back() {
    let mut transactions = coordinator();
    let mut ids = 0;
    let mut init_long = |transactions: &mut Transactions| {
        ids += 1;
        let first = InitRequest {
            id: alloc::format!("{ids:0>width$}", width = TRANSACTIONAL_ID_BYTES_MAX).into(),
            ..request(None)
        };
        match transactions.decide_init(NOW, &first, Some(ProducerId(ids)))? {
            InitOutcome::Decided(decision) => Ok(store(transactions, decision)),
            other => panic!("{other:?}"),
        }
    };
    while init_long(&mut transactions).is_ok() {}
    assert_eq!(
        init_long(&mut transactions),
        Err(TransactionError::LimitExceeded)
    );
    assert!(transactions.list().count() > MEMORY_BYTES_MAX / TRANSACTIONAL_ID_BYTES_MAX / 2);
    loop {
        let tombstones = transactions.expired(Timestamp(i64::MAX));
        if tombstones.is_empty() {
            break;
        }
        for tombstone in &tombstones {
            transactions.begin(tombstone);
            transactions.apply(tombstone);
        }
    }
    assert_eq!(transactions.memory_bytes, 0);
    let p = init(&mut transactions, None);
    let decision = transactions.decide_add(NOW, "id", p, vec![partition(1)]);
    let Ok(Decision::Store { record, .. }) = decision else {
        panic!("{decision:?}");
    };
    let before = transactions.memory_bytes;
    transactions.begin(&record);
    transactions.give_up(&record);
    assert_eq!(transactions.memory_bytes, before);
}

#[test]
fn nothing_is_decided_while_a_record_is_being_stored() {
    let mut transactions = coordinator();
    let outcome = transactions.decide_init(NOW, &request(None), Some(ProducerId(70)));
    let Ok(InitOutcome::Decided(Decision::Store { record, .. })) = outcome else {
        panic!("{outcome:?}");
    };
    transactions.begin(&record);
    let busy = Err(TransactionError::Concurrent);
    assert_eq!(transactions.decide_init(NOW, &request(None), None), busy);
    transactions.give_up(&record);
    assert!(transactions.decide_init(NOW, &request(None), None).is_ok());
    for timeout in [Duration::ZERO, Duration::from_secs(901)] {
        let request = InitRequest {
            timeout,
            ..request(None)
        };
        let refused = transactions.decide_init(NOW, &request, None);
        assert_eq!(refused, Err(TransactionError::InvalidTimeout));
    }
}
