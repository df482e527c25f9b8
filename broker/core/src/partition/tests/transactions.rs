//! Transactions in one partition: what is stable, who may begin, and who may end.

use super::*;
use crate::CoordinatorEpoch;

const PRODUCER: ProducerId = ProducerId(9);

fn transactional(producer: i64, epoch: i16, sequence: i32) -> SequencedBatch {
    SequencedBatch {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        first_sequence: sequence,
        last_sequence: sequence,
        transactional: true,
    }
}

fn marker(producer: i64, epoch: i16, outcome: TransactionOutcome) -> EndMarker {
    EndMarker {
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        coordinator_epoch: CoordinatorEpoch(1),
        outcome,
    }
}

fn admit(
    replica: &mut Replica,
    batch: &SequencedBatch,
    guard: Option<VerificationGuard>,
) -> Result<SequenceVerdict, AppendError> {
    let verdict = replica.admit(Time(0), Acks::All, Some(batch))?;
    if verdict == SequenceVerdict::Append {
        replica.check_verified(Time(0), batch, guard)?;
    }
    Ok(verdict)
}

/// Appends a transactional record at `at`, as the leader.
fn append(replica: &mut Replica, producer: i64, sequence: i32, at: i64) {
    let batch = transactional(producer, 0, sequence);
    let guard = replica
        .begin_verification(batch.producer_id, batch.producer_epoch)
        .unwrap();
    assert_eq!(admit(replica, &batch, guard), Ok(SequenceVerdict::Append));
    let appended = Some((&batch, Timestamp(at)));
    replica.handle_append(Time(0), appended, Offset(at), Offset(at + 1));
}

fn end(
    replica: &mut Replica,
    producer: i64,
    outcome: TransactionOutcome,
    at: i64,
) -> Option<EndedTransaction> {
    let marker = marker(producer, 0, outcome);
    let verdict = replica.admit_marker(&marker, MarkerEpoch::Any);
    assert_eq!(verdict, Ok(MarkerVerdict::Append));
    let ended = replica.record_marker(&marker, Offset(at), Timestamp(at));
    replica.handle_append(Time(0), None, Offset(at), Offset(at + 1));
    ended
}

#[test]
fn nothing_is_stable_from_the_first_ongoing_transaction_on_until_its_marker_is_replicated() {
    let mut replica = leader(&[0, 1], 1);
    append(&mut replica, 1, 0, 0);
    append(&mut replica, 2, 0, 1);
    append(&mut replica, 1, 1, 2);
    pull(&mut replica, 1, 1, 3, 3);
    assert_eq!(replica.high_watermark(), Offset(3));
    assert_eq!(replica.last_stable_offset(Offset(0)), Offset(0));
    let ended = end(&mut replica, 1, TransactionOutcome::Abort, 3).unwrap();
    assert_eq!(
        (
            ended.first_offset,
            ended.marker_offset,
            ended.last_stable_offset
        ),
        (Offset(0), Offset(3), Offset(1))
    );
    assert_eq!(replica.last_stable_offset(Offset(0)), Offset(0), "not yet");
    pull(&mut replica, 2, 1, 4, 4);
    assert_eq!(replica.last_stable_offset(Offset(0)), Offset(1));
    assert_eq!(replica.last_stable_offset(Offset(2)), Offset(2), "deleted");
    let ended = end(&mut replica, 2, TransactionOutcome::Commit, 4).unwrap();
    assert_eq!(ended.last_stable_offset, Offset(5));
    pull(&mut replica, 3, 1, 5, 5);
    assert_eq!(replica.last_stable_offset(Offset(0)), Offset(5));
    assert_eq!(end(&mut replica, 2, TransactionOutcome::Commit, 5), None);
}

#[test]
fn a_first_record_needs_a_verification_that_no_marker_has_ended() {
    let mut replica = leader(&[0], 1);
    let first = transactional(9, 0, 0);
    let begins = |replica: &mut Replica, guard| admit(replica, &first, guard);
    assert_eq!(begins(&mut replica, None), Err(AppendError::Unverified));
    let begin = |replica: &mut Replica| {
        replica
            .begin_verification(PRODUCER, ProducerEpoch(0))
            .unwrap()
    };
    let guard = begin(&mut replica);
    assert_eq!(begin(&mut replica), guard, "of two requests at a time");
    end(&mut replica, 9, TransactionOutcome::Abort, 0);
    assert_eq!(begins(&mut replica, guard), Err(AppendError::Unverified));
    let guard = begin(&mut replica);
    assert_eq!(begins(&mut replica, guard), Ok(SequenceVerdict::Append));
    replica.handle_append(Time(0), Some((&first, Timestamp(1))), Offset(1), Offset(2));
    assert_eq!(begin(&mut replica), None, "verified");
    let second = transactional(9, 0, 1);
    assert_eq!(
        admit(&mut replica, &second, None),
        Ok(SequenceVerdict::Append)
    );
    let duplicate = admit(&mut replica, &first, None);
    assert!(matches!(duplicate, Ok(SequenceVerdict::Duplicate { .. })));
}

#[test]
fn a_verification_of_an_earlier_leadership_counts_for_nothing() {
    let mut replica = leader(&[0], 1);
    let guard = replica
        .begin_verification(PRODUCER, ProducerEpoch(0))
        .unwrap();
    let mut other = assignment(&[1], 2);
    other.leader = Some(BrokerId(1));
    other.leader_epoch = LeaderEpoch(4);
    replica.handle_assignment(Time(1), &other, ends(0));
    let mut again = assignment(&[0], 3);
    again.leader_epoch = LeaderEpoch(5);
    replica.handle_assignment(Time(2), &again, ends(0));
    replica
        .begin_verification(PRODUCER, ProducerEpoch(0))
        .unwrap();
    assert_eq!(
        admit(&mut replica, &transactional(9, 0, 0), guard),
        Err(AppendError::Unverified)
    );
}

#[test]
fn a_marker_with_a_higher_epoch_fences_late_records_and_begins_the_sequence_anew() {
    let mut replica = leader(&[0], 1);
    append(&mut replica, 9, 0, 0);
    let bumped = marker(9, 1, TransactionOutcome::Commit);
    let check_marker =
        |replica: &Replica, marker| replica.admit_marker(marker, MarkerEpoch::Raised);
    assert_eq!(check_marker(&replica, &bumped), Ok(MarkerVerdict::Append));
    assert!(
        replica
            .record_marker(&bumped, Offset(1), Timestamp(1))
            .is_some()
    );
    let producers = replica.producers();
    let check = |epoch, sequence| producers.check(&transactional(9, epoch, sequence));
    assert!(matches!(
        check(0, 1),
        Err(SequenceError::FencedEpoch { .. })
    ));
    assert!(matches!(check(1, 1), Err(SequenceError::OutOfOrder { .. })));
    assert_eq!(check(1, 0), Ok(SequenceVerdict::Append));
    let next = transactional(9, 1, 0);
    replica.handle_append(Time(0), Some((&next, Timestamp(2))), Offset(2), Offset(3));
    let copy = check_marker(&replica, &bumped);
    assert_eq!(copy, Ok(MarkerVerdict::Ended), "not the next transaction");
    let late = marker(9, 0, TransactionOutcome::Abort);
    assert!(matches!(
        check_marker(&replica, &late),
        Err(AppendError::Marker(MarkerError::FencedEpoch { .. }))
    ));
    let deposed = EndMarker {
        coordinator_epoch: CoordinatorEpoch(0),
        ..bumped
    };
    assert!(matches!(
        check_marker(&replica, &deposed),
        Err(AppendError::Marker(MarkerError::FencedCoordinator { .. }))
    ));
}

#[test]
fn a_producer_in_a_transaction_writes_nothing_outside_of_it_and_is_not_forgotten() {
    let mut replica = leader(&[0], 1);
    append(&mut replica, 9, 0, 0);
    let outside = SequencedBatch {
        transactional: false,
        ..transactional(9, 0, 1)
    };
    assert_eq!(
        replica.producers().check(&outside),
        Err(SequenceError::OutsideTransaction)
    );
    replica.expire_producers(Time(0), Timestamp(i64::MAX));
    assert!(replica.in_transaction(PRODUCER, ProducerEpoch(0)));
    end(&mut replica, 9, TransactionOutcome::Commit, 1);
    replica.expire_producers(Time(0), Timestamp(i64::MAX));
    assert!(replica.producers().is_empty());
}

/// As the offsets that a transaction commits, of which several may be on their way for one producer.
#[test]
fn what_a_coordinator_writes_for_a_producer_has_no_sequence() {
    let mut replica = leader(&[0], 1);
    let offsets = |epoch| transactional(9, epoch, NO_SEQUENCE);
    let guard = replica
        .begin_verification(PRODUCER, ProducerEpoch(0))
        .unwrap();
    assert_eq!(
        admit(&mut replica, &offsets(0), None),
        Err(AppendError::Unverified)
    );
    for at in 0..7 {
        let admitted = admit(&mut replica, &offsets(0), guard);
        assert_eq!(admitted, Ok(SequenceVerdict::Append));
        let appended = Some((&offsets(0), Timestamp(at)));
        replica.handle_append(Time(0), appended, Offset(at), Offset(at + 1));
    }
    assert_eq!(replica.last_stable_offset(Offset(0)), Offset(0));
    let bumped = marker(9, 1, TransactionOutcome::Commit);
    let ended = replica.record_marker(&bumped, Offset(7), Timestamp(7));
    assert_eq!(ended.unwrap().first_offset, Offset(0));
    assert!(matches!(
        admit(&mut replica, &offsets(0), guard),
        Err(AppendError::Sequence(SequenceError::FencedEpoch { .. }))
    ));
    let mut restored = Producers::default();
    for entry in replica.producers().snapshot() {
        restored.restore(&entry);
    }
    restored.replicated(Offset(8));
    replica.handle_append(Time(0), None, Offset(7), Offset(8));
    assert_eq!(&restored, replica.producers());
}

proptest! {
    /// However transactions interleave, readers of committed records never pass one that has not
    /// ended, and a snapshot taken anywhere brings the same state back.
    #[test]
    fn the_last_stable_offset_is_the_start_of_the_oldest_ongoing_transaction(
        steps in proptest::collection::vec((0..5i64, 0..3u8), 1..120)
    ) {
        let mut producers = Producers::default();
        let mut sequences = [0i32; 5];
        let mut ongoing: [Option<i64>; 5] = [None; 5];
        for (at, (id, step)) in (0i64..).zip(steps) {
            let producer = id as usize;
            if step < 2 {
                let batch = transactional(id, 0, sequences[producer]);
                prop_assert_eq!(producers.check(&batch), Ok(SequenceVerdict::Append));
                producers.record(&batch, Offset(at), Timestamp(at));
                sequences[producer] += 1;
                ongoing[producer].get_or_insert(at);
            } else {
                let marker = marker(id, 0, TransactionOutcome::Commit);
                let ended = producers.end_transaction(&marker, Offset(at), Timestamp(at));
                let start = ongoing[producer].take();
                prop_assert_eq!(ended.map(|ended| ended.first_offset.0), start);
            }
            producers.replicated(Offset(at + 1));
            let oldest = ongoing.iter().flatten().min();
            prop_assert_eq!(producers.first_unstable_offset(), oldest.map(|start| Offset(*start)));
            let mut restored = Producers::default();
            for entry in producers.snapshot() {
                restored.restore(&entry);
            }
            prop_assert_eq!(&restored, &producers);
        }
    }
}
