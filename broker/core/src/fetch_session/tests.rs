use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;

use super::*;

const START: Time = Time(1_000_000);

fn key(partition: i32) -> PartitionKey {
    PartitionKey {
        topic: TopicKey::Name(Arc::from("t")),
        partition: PartitionIndex(partition),
    }
}

fn at(offset: i64) -> FetchPosition {
    FetchPosition {
        fetch_offset: Offset(offset),
        current_leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
        bytes_max: 1000,
    }
}

fn ends(high_watermark: i64) -> LogEnds {
    LogEnds {
        high_watermark: Offset(high_watermark),
        log_start: Offset(0),
    }
}

fn request(session_id: i32, session_epoch: i32, partitions: &[i32]) -> SessionRequest {
    SessionRequest {
        session_id,
        session_epoch,
        form: TopicKeyForm::Names,
        partitions: partitions
            .iter()
            .map(|partition| (key(*partition), at(0)))
            .collect(),
        forgotten: Vec::new(),
    }
}

fn create(sessions: &mut FetchSessions, now: Time, partitions: &[i32]) -> i32 {
    let plan = sessions
        .begin(now, request(NO_SESSION, EPOCH_INITIAL, partitions))
        .unwrap();
    let outcomes = vec![Outcome::Nothing { ends: ends(0) }; partitions.len()];
    let new_id = (now.0 % 1000) as i32 * 10 + partitions.len() as i32;
    sessions
        .finish(now, plan, &outcomes, new_id)
        .unwrap()
        .session_id
}

#[test]
fn fetches_without_session_mention_everything() {
    let mut sessions = FetchSessions::new(10);
    let plan = sessions
        .begin(START, request(NO_SESSION, EPOCH_FINAL, &[0, 1]))
        .unwrap();
    let nothing = [Outcome::Nothing { ends: ends(0) }; 2];
    let finished = sessions.finish(START, plan, &nothing, 7).unwrap();
    assert_eq!(
        finished,
        Finished {
            session_id: NO_SESSION,
            mentioned: vec![true, true]
        }
    );
    assert!(sessions.is_empty());
}

#[test]
fn epochs_are_taken_in_order_only() {
    let mut sessions = FetchSessions::new(10);
    let id = create(&mut sessions, START, &[0]);
    assert_eq!(id, 1);
    let stale = sessions.begin(START, request(id, 2, &[]));
    assert_eq!(
        stale.err(),
        Some(SessionError::InvalidEpoch {
            expected: 1,
            found: 2
        })
    );
    let first = sessions.begin(START, request(id, 1, &[])).unwrap();
    let overtaking = sessions.begin(START, request(id, 2, &[])).unwrap();
    let outcome = [Outcome::Failed];
    assert_eq!(
        sessions.finish(START, first, &outcome, 8),
        Err(SessionError::InvalidEpoch {
            expected: 3,
            found: 2
        })
    );
    assert!(sessions.finish(START, overtaking, &outcome, 8).is_ok());
    assert_eq!(
        sessions.begin(START, request(99, 1, &[])).err(),
        Some(SessionError::NotFound(99))
    );
}

#[test]
fn the_epoch_after_the_largest_is_the_first() {
    let mut sessions = FetchSessions::new(10);
    let id = create(&mut sessions, START, &[0]);
    sessions.sessions.get_mut(&id).unwrap().next_epoch = i32::MAX;
    sessions.begin(START, request(id, i32::MAX, &[])).unwrap();
    assert!(sessions.begin(START, request(id, 1, &[])).is_ok());
}

#[test]
fn a_session_keeps_to_names_or_ids() {
    let mut sessions = FetchSessions::new(10);
    let id = create(&mut sessions, START, &[0]);
    let by_id = SessionRequest {
        form: TopicKeyForm::Ids,
        ..request(id, 1, &[])
    };
    assert_eq!(
        sessions.begin(START, by_id).err(),
        Some(SessionError::TopicKeyForm)
    );
}

#[test]
fn partitions_with_records_are_read_last_the_next_time() {
    let mut sessions = FetchSessions::new(10);
    let id = create(&mut sessions, START, &[0, 1, 2]);
    let plan = sessions.begin(START, request(id, 1, &[])).unwrap();
    let nothing = Outcome::Nothing { ends: ends(0) };
    let outcomes = [Outcome::Records { ends: ends(0) }, nothing, nothing];
    let finished = sessions.finish(START, plan, &outcomes, 8).unwrap();
    assert_eq!(finished.mentioned, [true, false, false]);
    let plan = sessions.begin(START, request(id, 2, &[])).unwrap();
    let order: Vec<_> = plan
        .partitions
        .iter()
        .map(|(key, _)| key.partition.0)
        .collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn full_caches_evict_the_unused_then_the_small_and_old() {
    let mut sessions = FetchSessions::new(2);
    let small = create(&mut sessions, START, &[0]);
    let large = create(&mut sessions, START, &[0, 1]);
    assert_eq!(create(&mut sessions, START, &[0, 1, 2]), NO_SESSION);

    let later = START.plus(EVICTION_AGE).plus(Duration::from_millis(1));
    for id in [small, large] {
        sessions.begin(later, request(id, 1, &[])).unwrap();
    }
    assert_eq!(
        create(&mut sessions, later, &[0]),
        NO_SESSION,
        "nobody smaller"
    );
    let third = create(&mut sessions, later, &[0, 1, 2]);
    assert_ne!(third, NO_SESSION);
    let gone = sessions.begin(later, request(small, 2, &[]));
    assert_eq!(gone.err(), Some(SessionError::NotFound(small)));

    let much_later = later.plus(EVICTION_AGE).plus(Duration::from_millis(1));
    sessions.begin(much_later, request(third, 1, &[])).unwrap();
    assert_ne!(create(&mut sessions, much_later, &[0]), NO_SESSION);
    let gone = sessions.begin(much_later, request(large, 2, &[]));
    assert_eq!(gone.err(), Some(SessionError::NotFound(large)));
    assert_eq!(sessions.len(), 2);
}

#[test]
fn partitions_of_all_sessions_are_bounded() {
    let mut sessions = FetchSessions::new(10);
    let half: Vec<i32> = (0..(SESSION_PARTITIONS_MAX / 2) as i32).collect();
    let first = create(&mut sessions, START, &half);
    create(&mut sessions, START, &half);
    assert_eq!(create(&mut sessions, START, &[0]), NO_SESSION);
    let one_more = request(first, 1, &[half.len() as i32]);
    assert_eq!(
        sessions.begin(START, one_more).err(),
        Some(SessionError::NotFound(first))
    );
    assert_eq!(sessions.partitions, half.len());
}

#[derive(Clone, Debug)]
enum Step {
    /// The high watermark of a partition moves.
    Advance(i32),
    Fetch {
        changed: Vec<(i32, i64)>,
        forgotten: Vec<i32>,
        failing: Vec<i32>,
        with_records: Vec<i32>,
    },
    Restart(Vec<i32>),
}

fn step() -> impl Strategy<Value = Step> {
    let few = || vec_of(0..6i32, 0..3);
    prop_oneof![
        2 => (0..6i32).prop_map(Step::Advance),
        4 => (vec_of((0..6i32, 0..9i64), 0..3), few(), few(), few()).prop_map(
            |(changed, forgotten, failing, with_records)| Step::Fetch {
                changed, forgotten, failing, with_records,
            }
        ),
        1 => few().prop_map(Step::Restart),
    ]
}

/// A client that applies responses as KIP-227 says, beside the truth.
#[derive(Default)]
struct Client {
    session_id: i32,
    epoch: i32,
    positions: BTreeMap<i32, i64>,
    known: BTreeMap<i32, LogEnds>,
}

proptest! {
    /// Whatever is sent incrementally, the client ends up with what a full response would have said,
    /// and the broker reads the partitions that the client means.
    #[test]
    fn incremental_responses_add_up_to_full_ones(steps in vec_of(step(), 1..40)) {
        let mut sessions = FetchSessions::new(10);
        let mut client = Client::default();
        let mut truth: BTreeMap<i32, i64> = (0..6).map(|partition| (partition, 0)).collect();
        for step in steps {
            let (changed, forgotten, failing, with_records) = match step {
                Step::Advance(partition) => {
                    *truth.get_mut(&partition).unwrap() += 1;
                    continue;
                }
                Step::Restart(partitions) => {
                    client = Client { session_id: client.session_id, ..Client::default() };
                    let all = partitions.into_iter().map(|partition| (partition, 0)).collect();
                    (all, vec![], vec![], vec![])
                }
                Step::Fetch { changed, forgotten, failing, with_records } => {
                    (changed, forgotten, failing, with_records)
                }
            };
            let forgotten: Vec<_> = if client.epoch == 0 { vec![] } else { forgotten };
            client.positions.extend(changed.iter().copied());
            for partition in &forgotten {
                client.positions.remove(partition);
                client.known.remove(partition);
            }
            let deduplicated: BTreeMap<i32, i64> = changed.into_iter().collect();
            let request = SessionRequest {
                session_id: client.session_id,
                session_epoch: client.epoch,
                form: TopicKeyForm::Names,
                partitions: deduplicated
                    .iter()
                    .map(|(partition, offset)| (key(*partition), at(*offset)))
                    .collect(),
                forgotten: forgotten.iter().map(|partition| key(*partition)).collect(),
            };
            let plan = sessions.begin(START, request).unwrap();
            let planned: Vec<_> = plan
                .partitions
                .iter()
                .map(|(key, position)| (key.partition.0, position.fetch_offset.0))
                .collect();
            let as_set: BTreeSet<_> = planned.iter().copied().collect();
            let meant: BTreeSet<_> =
                client.positions.iter().map(|(partition, offset)| (*partition, *offset)).collect();
            prop_assert_eq!(as_set.len(), planned.len());
            prop_assert_eq!(as_set, meant);

            let outcomes: Vec<_> = planned
                .iter()
                .map(|(partition, _)| {
                    let ends = ends(truth[partition]);
                    match () {
                        () if failing.contains(partition) => Outcome::Failed,
                        () if with_records.contains(partition) => Outcome::Records { ends },
                        () => Outcome::Nothing { ends },
                    }
                })
                .collect();
            let finished = sessions.finish(START, plan, &outcomes, 1).unwrap();
            for (((partition, _), outcome), mentioned) in
                planned.iter().zip(&outcomes).zip(&finished.mentioned)
            {
                match outcome {
                    Outcome::Failed | Outcome::Records { .. } => prop_assert!(*mentioned),
                    Outcome::Nothing { .. } => {}
                }
                if *mentioned {
                    match outcome {
                        Outcome::Failed => client.known.remove(partition),
                        Outcome::Records { ends } | Outcome::Nothing { ends } => {
                            client.known.insert(*partition, *ends)
                        }
                    };
                }
            }
            let expected: BTreeMap<_, _> = client
                .positions
                .keys()
                .filter(|partition| !failing.contains(partition))
                .map(|partition| (*partition, ends(truth[partition])))
                .collect();
            prop_assert_eq!(&client.known, &expected);
            client.session_id = finished.session_id;
            client.epoch = if finished.session_id == NO_SESSION { 0 } else { client.epoch + 1 };
            if client.epoch == 0 {
                client = Client::default();
            }
            prop_assert!(sessions.len() <= 1);
        }
    }
}
