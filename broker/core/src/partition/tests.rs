//! One replica driven by hand: each test names the rule it holds the replica to.

mod transactions;

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{BrokerEpoch, ProducerEpoch, ProducerId, Timestamp};

const ME: BrokerId = BrokerId(0);
const LAG: Duration = Duration::from_secs(10);
const DWELL: Duration = Duration::from_secs(1);
/// Log end of the tests that don't vary it.
const END: Offset = Offset(10);
const EPOCH: LeaderEpoch = LeaderEpoch(3);

fn assignment(isr: &[i32], partition_epoch: i32) -> Assignment {
    Assignment {
        leader: Some(ME),
        leader_epoch: EPOCH,
        partition_epoch: PartitionEpoch(partition_epoch),
        replicas: vec![ME, BrokerId(1), BrokerId(2)],
        isr: isr.iter().copied().map(BrokerId).collect(),
        elr: Vec::new(),
    }
}

fn leader(isr: &[i32], min_insync_replicas: usize) -> Replica {
    let settings = Settings {
        min_insync_replicas,
        lag_time_max: LAG,
        isr_dwell: DWELL,
    };
    let mut replica = Replica::new(ME, settings, Offset(0), Producers::default());
    let change = replica.handle_assignment(Time(0), &assignment(isr, 1), ends(0));
    assert_eq!(change, RoleChange::BecameLeader { missing: 0 });
    replica
}

fn pull(replica: &mut Replica, at_ms: u64, follower: i32, offset: i64, end: i64) -> PullProgress {
    let puller = puller(follower, 7);
    replica
        .handle_pull(Time(at_ms), puller, EPOCH, Offset(offset), ends(end))
        .unwrap()
}

const fn puller(broker: i32, broker_epoch: i64) -> Puller {
    Puller {
        broker: BrokerId(broker),
        broker_epoch: BrokerEpoch(broker_epoch),
        stream: 1,
    }
}

const fn ends(end: i64) -> LeaderEnds {
    LeaderEnds {
        written: Offset(end),
        own: Offset(end),
    }
}

fn members(proposal: &IsrProposal) -> Vec<i32> {
    proposal.isr.iter().map(|member| member.broker.0).collect()
}

fn anyone(_: BrokerId) -> bool {
    true
}

fn batch(first: i32, last: i32) -> SequencedBatch {
    SequencedBatch {
        producer_id: ProducerId(9),
        producer_epoch: ProducerEpoch(0),
        first_sequence: first,
        last_sequence: last,
        transactional: false,
    }
}

#[test]
fn high_watermark_follows_the_slowest_member_of_the_isr() {
    let mut replica = leader(&[0, 1, 2], 1);
    assert!(!replica.handle_append(Time(0), None, Offset(0), Offset(10)));
    assert!(!pull(&mut replica, 1, 1, 10, 10).advanced);
    assert!(pull(&mut replica, 2, 2, 4, 10).advanced);
    assert_eq!(replica.high_watermark(), Offset(4));
    pull(&mut replica, 3, 2, 10, 10);
    assert_eq!(replica.high_watermark(), Offset(10));
}

#[test]
fn a_leader_alone_in_the_isr_commits_by_itself() {
    let mut replica = leader(&[0], 1);
    assert!(replica.handle_append(Time(0), None, Offset(0), Offset(5)));
    assert_eq!(replica.high_watermark(), Offset(5));
}

#[test]
fn high_watermark_stands_still_below_min_insync_replicas() {
    let mut replica = leader(&[0], 2);
    assert!(!replica.handle_append(Time(0), None, Offset(0), Offset(5)));
    assert_eq!(
        replica.admit(Time(1), Acks::All, None),
        Err(AppendError::NotEnoughReplicas {
            in_sync: 1,
            required: 2
        })
    );
    assert_eq!(
        replica.admit(Time(1), Acks::Leader, None),
        Ok(SequenceVerdict::Append)
    );
    replica.handle_assignment(Time(1), &assignment(&[0, 1], 2), ends(5));
    assert_eq!(
        replica.high_watermark(),
        Offset(0),
        "the new member has not pulled yet"
    );
    pull(&mut replica, 2, 1, 5, 5);
    assert_eq!(replica.high_watermark(), Offset(5));
}

#[test]
fn a_leader_whose_min_insync_replicas_is_lower_than_the_controllers_waits_while_there_is_an_elr() {
    let mut replica = leader(&[0, 1, 2], 1);
    let mut shrunk = assignment(&[0], 2);
    shrunk.elr = vec![BrokerId(1), BrokerId(2)];
    replica.handle_assignment(Time(1), &shrunk, ends(0));
    assert!(!replica.handle_append(Time(1), None, Offset(0), Offset(5)));
    assert!(replica.admit(Time(1), Acks::All, None).is_err());
    replica.handle_assignment(Time(2), &assignment(&[0], 3), ends(5));
    assert_eq!(replica.high_watermark(), Offset(5));
}

#[test]
fn a_lagging_member_is_proposed_out_after_the_lag_time_and_holds_the_mark_until_committed() {
    let mut replica = leader(&[0, 1, 2], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    pull(&mut replica, 9_000, 1, 10, 10);
    assert_eq!(
        replica.handle_tick(Time(10_000), END, anyone),
        None,
        "a full lag window for everybody"
    );
    let proposal = replica.handle_tick(Time(10_001), END, anyone).unwrap();
    assert_eq!(members(&proposal), [0, 1]);
    assert_eq!(replica.high_watermark(), Offset(0));
    assert_eq!(
        replica.handle_tick(Time(10_002), END, anyone),
        None,
        "one proposal at a time"
    );
    replica.handle_assignment(Time(10_010), &assignment(&[0, 1], 2), ends(10));
    assert_eq!(replica.high_watermark(), Offset(10));
}

#[test]
fn a_replica_enters_the_isr_at_the_log_end_and_counts_while_proposed() {
    let mut replica = leader(&[0], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    assert!(!pull(&mut replica, 1, 1, 3, 10).may_enter_isr);
    assert!(pull(&mut replica, 2, 1, 10, 10).may_enter_isr);
    let proposal = replica.handle_tick(Time(2), END, anyone).unwrap();
    assert_eq!(members(&proposal), [0, 1]);
    assert_eq!(proposal.isr[1].epoch, Some(BrokerEpoch(7)));
    assert!(
        !replica.handle_append(Time(0), None, Offset(10), Offset(12)),
        "the proposed member counts"
    );
    assert!(pull(&mut replica, 3, 1, 12, 12).advanced);
}

/// Broker 1 lags out of the ISR at `at_ms`; the controller commits it.
fn lag_out(replica: &mut Replica, at_ms: u64, end: i64, partition_epoch: i32) {
    replica.handle_append(Time(at_ms - 20_000), None, Offset(end - 1), Offset(end));
    let proposal = replica
        .handle_tick(Time(at_ms), Offset(end), anyone)
        .unwrap();
    assert_eq!(members(&proposal), [0]);
    replica.handle_assignment(Time(at_ms), &assignment(&[0], partition_epoch), ends(end));
}

#[test]
fn a_replica_that_lagged_out_dwells_at_the_log_end_before_it_enters_again() {
    let mut replica = leader(&[0, 1], 1);
    let mut at_ms = 0;
    for (round, dwell_ms) in [1_000, 2_000, 4_000].into_iter().enumerate() {
        let end = i64::try_from(round).unwrap() + 1;
        let partition_epoch = 2 * i32::try_from(round).unwrap() + 2;
        at_ms += 30_000;
        lag_out(&mut replica, at_ms, end, partition_epoch);
        assert!(!pull(&mut replica, at_ms, 1, end, end).may_enter_isr);
        let before = Time(at_ms + dwell_ms - 1);
        assert_eq!(
            replica.handle_tick(before, Offset(end), anyone),
            None,
            "{round}"
        );
        at_ms += dwell_ms;
        let proposal = replica
            .handle_tick(Time(at_ms), Offset(end), anyone)
            .unwrap();
        assert_eq!(members(&proposal), [0, 1], "{round}");
        let entered = assignment(&[0, 1], partition_epoch + 1);
        replica.handle_assignment(Time(at_ms), &entered, ends(end));
    }
    at_ms += 300_000;
    lag_out(&mut replica, at_ms, 4, 8);
    pull(&mut replica, at_ms, 1, 4, 4);
    let proposal = replica.handle_tick(Time(at_ms + 1_000), Offset(4), anyone);
    assert!(proposal.is_some(), "it had been steady");
}

#[test]
fn a_replica_that_caught_up_before_its_lag_was_committed_enters_again_without_a_pull() {
    let mut replica = leader(&[0, 1], 1);
    replica.handle_append(Time(10_000), None, Offset(0), END);
    assert!(replica.handle_tick(Time(30_000), END, anyone).is_some());
    pull(&mut replica, 30_001, 1, END.0, END.0);
    replica.handle_assignment(Time(30_002), &assignment(&[0], 2), ends(END.0));
    assert_eq!(replica.handle_tick(Time(30_010), END, anyone), None);
    let proposal = replica.handle_tick(Time(31_010), END, anyone).unwrap();
    assert_eq!(members(&proposal), [0, 1]);
}

#[test]
fn a_smaller_isr_does_not_commit_what_the_leader_has_not_made_durable() {
    let mut replica = leader(&[0, 1], 1);
    replica.handle_append(Time(1), None, Offset(0), Offset(0));
    let unsynced = LeaderEnds {
        written: END,
        own: Offset(0),
    };
    replica.handle_assignment(Time(2), &assignment(&[0], 2), unsynced);
    assert_eq!(replica.high_watermark(), Offset(0));
    assert!(replica.handle_durable(END));
}

#[test]
fn the_dwell_begins_anew_when_the_replica_falls_behind() {
    let mut replica = leader(&[0, 1], 1);
    lag_out(&mut replica, 30_000, 10, 2);
    pull(&mut replica, 30_000, 1, 10, 10);
    replica.handle_append(Time(30_500), None, Offset(10), Offset(30));
    pull(&mut replica, 30_500, 1, 12, 30);
    pull(&mut replica, 30_600, 1, 20, 30);
    pull(&mut replica, 30_700, 1, 30, 30);
    assert_eq!(replica.handle_tick(Time(31_600), Offset(30), anyone), None);
    assert!(
        replica
            .handle_tick(Time(31_700), Offset(30), anyone)
            .is_some()
    );
}

#[test]
fn a_restarted_replica_does_not_pay_for_the_lag_of_its_predecessor() {
    let mut replica = leader(&[0, 1], 1);
    pull(&mut replica, 1, 1, 0, 0);
    lag_out(&mut replica, 30_000, 10, 2);
    let restarted = puller(1, 8);
    let progress = replica.handle_pull(Time(30_001), restarted, EPOCH, Offset(10), ends(10));
    assert!(progress.unwrap().may_enter_isr);
}

#[test]
fn a_fenced_member_has_not_lagged() {
    let mut replica = leader(&[0, 1], 1);
    pull(&mut replica, 1, 1, 0, 0);
    replica.handle_assignment(Time(2), &assignment(&[0], 2), ends(0));
    assert!(pull(&mut replica, 3, 1, 0, 0).may_enter_isr);
}

#[test]
fn a_pull_of_an_earlier_registration_acknowledges_nothing() {
    let mut replica = leader(&[0, 1], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    let at = |epoch| puller(1, epoch);
    let restarted = replica.handle_pull(Time(1), at(8), EPOCH, Offset(4), ends(10));
    assert!(restarted.unwrap().advanced);
    let late = replica.handle_pull(Time(2), at(7), EPOCH, Offset(10), ends(10));
    assert_eq!(late, Ok(PullProgress::default()));
    assert_eq!(replica.high_watermark(), Offset(4));
}

#[test]
fn a_late_pull_of_a_replaced_stream_does_not_set_the_follower_back() {
    let mut replica = leader(&[0], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    let by = |stream| Puller {
        stream,
        ..puller(1, 7)
    };
    let caught_up = replica.handle_pull(Time(1), by(2), EPOCH, Offset(10), ends(10));
    assert!(caught_up.unwrap().may_enter_isr);
    let late = replica.handle_pull(Time(2), by(1), EPOCH, Offset(4), ends(10));
    assert_eq!(late, Ok(PullProgress::default()));
    let proposal = replica.handle_tick(Time(3), Offset(10), anyone).unwrap();
    assert_eq!(members(&proposal), [0, 1]);
}

#[test]
fn a_restarted_follower_counts_its_streams_anew() {
    let mut replica = leader(&[0, 1], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    let before = Puller {
        stream: 9,
        ..puller(1, 7)
    };
    let early = replica.handle_pull(Time(1), before, EPOCH, Offset(4), ends(10));
    assert!(early.unwrap().advanced);
    let restarted = replica.handle_pull(Time(2), puller(1, 8), EPOCH, Offset(10), ends(10));
    assert!(restarted.unwrap().advanced);
}

#[test]
fn a_replica_that_pulled_before_the_leader_knew_of_it_is_looked_at_again() {
    let mut replica = leader(&[0, 1], 1);
    let mut known = assignment(&[0, 1], 2);
    known.replicas.truncate(2);
    replica.handle_assignment(Time(1), &known, ends(0));
    assert_eq!(pull(&mut replica, 2, 2, 0, 0), PullProgress::default());
    let added = assignment(&[0, 1], 3);
    let change = replica.handle_assignment(Time(3), &added, ends(0));
    assert_eq!(change, RoleChange::ReplicasAdded);
    assert!(pull(&mut replica, 3, 2, 0, 0).may_enter_isr);
    let change = replica.handle_assignment(Time(4), &added, ends(0));
    assert_eq!(change, RoleChange::Unchanged);
}

#[test]
fn a_restarted_member_counts_for_min_insync_replicas_only_once_it_has_entered_again() {
    let mut replica = leader(&[0, 1, 2], 3);
    replica.handle_append(Time(0), None, Offset(0), END);
    pull(&mut replica, 1, 1, 0, END.0);
    pull(&mut replica, 2, 2, END.0, END.0);
    let restarted = puller(1, 8);
    let pulled = replica.handle_pull(Time(3), restarted, EPOCH, END, ends(END.0));
    assert_eq!(pulled, Ok(PullProgress::default()));
    let refused = AppendError::NotEnoughReplicas {
        in_sync: 2,
        required: 3,
    };
    assert_eq!(replica.admit(Time(3), Acks::All, None), Err(refused));
    replica.handle_assignment(Time(4), &assignment(&[0, 2], 2), ends(END.0));
    assert_eq!(replica.high_watermark(), Offset(0));
    replica.handle_assignment(Time(5), &assignment(&[0, 1, 2], 3), ends(END.0));
    assert_eq!(replica.high_watermark(), END);
    assert!(replica.admit(Time(5), Acks::All, None).is_ok());
}

#[test]
fn counted_acks_follow_the_fastest_members_of_the_isr() {
    let mut replica = leader(&[0, 1], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    pull(&mut replica, 1, 1, 4, 10);
    pull(&mut replica, 1, 2, 9, 10);
    assert_eq!(replica.replicated_on(1, END), Some(END));
    assert_eq!(
        replica.replicated_on(2, END),
        Some(Offset(4)),
        "2 is not in sync"
    );
    assert_eq!(replica.replicated_on(3, END), None);
    replica.handle_assignment(Time(2), &assignment(&[0, 1, 2], 2), ends(END.0));
    assert_eq!(replica.replicated_on(2, END), Some(Offset(9)));
    assert_eq!(replica.replicated_on(2, Offset(7)), Some(Offset(7)));
    assert_eq!(replica.replicated_on(3, END), Some(Offset(4)));
}

#[test]
fn counted_acks_need_as_many_replicas_in_sync() {
    let mut replica = leader(&[0, 1], 1);
    let mut admit = |acks| replica.admit(Time(1), Acks::Counted(acks), None);
    assert_eq!(admit(2), Ok(SequenceVerdict::Append));
    assert_eq!(
        admit(3),
        Err(AppendError::NotEnoughReplicas {
            in_sync: 2,
            required: 3
        })
    );
    assert_eq!(
        admit(4),
        Err(AppendError::TooManyAcks {
            acks: 4,
            replicas: 3
        })
    );
}

#[test]
fn what_an_unclean_election_gives_up_is_counted() {
    let mut replica = leader(&[0], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    let mut next = assignment(&[1], 2);
    next.leader = Some(BrokerId(1));
    next.leader_epoch = LeaderEpoch(4);
    replica.handle_assignment(Time(1), &next, ends(10));
    assert_eq!(replica.handle_truncation(Offset(7)), 3, "by who truncates");
    assert_eq!(replica.handle_truncation(Offset(7)), 0);

    replica.handle_follower_append(Offset(20), Offset(12));
    next.leader = Some(ME);
    next.leader_epoch = LeaderEpoch(5);
    let change = replica.handle_assignment(Time(2), &next, ends(12));
    assert_eq!(
        change,
        RoleChange::BecameLeader { missing: 8 },
        "by who leads without"
    );
}

#[test]
fn a_caught_up_member_of_an_idle_partition_stays_and_gets_a_full_window_after_the_next_append() {
    let mut replica = leader(&[0, 1, 2], 1);
    replica.handle_append(Time(0), None, Offset(0), Offset(10));
    pull(&mut replica, 1, 1, 10, 10);
    pull(&mut replica, 1, 2, 10, 10);
    assert_eq!(replica.handle_tick(Time(3_600_000), END, anyone), None);
    replica.handle_append(Time(3_600_000), None, Offset(10), Offset(11));
    assert_eq!(
        replica.handle_tick(Time(3_610_000), Offset(11), anyone),
        None
    );
    assert!(
        replica
            .handle_tick(Time(3_610_001), Offset(11), anyone)
            .is_some()
    );
}

/// The leader asked for it twice a second, and then for the ISR as it was: a metadata record each time.
#[test]
fn a_follower_that_pulled_while_it_was_fenced_was_proposed_over_and_over() {
    let mut replica = leader(&[0], 1);
    pull(&mut replica, 1, 1, 0, 0);
    let fenced = |id| id != BrokerId(1);
    assert_eq!(replica.handle_tick(Time(1), END, fenced), None);
    let proposal = replica.handle_tick(Time(2), END, anyone).unwrap();
    assert_eq!(members(&proposal), [0, 1]);

    let mut replica = leader(&[0, 1], 1);
    pull(&mut replica, 1, 1, 0, 0);
    let leaves_it_in = replica.handle_tick(Time(1), END, fenced);
    assert_eq!(leaves_it_in, None, "the controller takes it out");
}

#[test]
fn a_refused_proposal_is_made_again_after_a_pause() {
    let mut replica = leader(&[0], 1);
    pull(&mut replica, 1, 1, 0, 0);
    assert!(replica.handle_tick(Time(1), END, anyone).is_some());
    replica.handle_isr_refused(Time(2), PartitionEpoch(1));
    let as_it_is = replica.handle_tick(Time(2), END, anyone).unwrap();
    assert_eq!(members(&as_it_is), [0]);
    replica.handle_assignment(Time(2), &assignment(&[0], 2), ends(0));
    pull(&mut replica, 3, 1, 0, 0);
    assert_eq!(replica.handle_tick(Time(100), END, anyone), None);
    assert!(replica.handle_tick(Time(502), END, anyone).is_some());
}

#[test]
fn a_refused_proposal_of_which_another_copy_is_committed_later_is_waited_for() {
    let mut replica = leader(&[0], 1);
    pull(&mut replica, 1, 1, 0, 0);
    assert!(replica.handle_tick(Time(1), END, anyone).is_some());
    assert!(
        replica.handle_tick(Time(2_001), END, anyone).is_some(),
        "a copy"
    );
    replica.handle_isr_refused(Time(2_002), PartitionEpoch(1));
    replica.handle_append(Time(2_003), None, Offset(0), Offset(5));
    assert_eq!(replica.high_watermark(), Offset(0));
    replica.handle_assignment(Time(2_004), &assignment(&[0, 1], 2), ends(5));
    assert_eq!(replica.high_watermark(), Offset(0), "1 may be elected");
}

#[test]
fn a_refused_proposal_counts_no_more_once_the_controller_can_accept_no_copy_of_it() {
    let mut replica = leader(&[0], 1);
    pull(&mut replica, 1, 1, 0, 0);
    assert!(replica.handle_tick(Time(1), END, anyone).is_some());
    replica.handle_isr_refused(Time(2), PartitionEpoch(1));
    replica.handle_append(Time(3), None, Offset(0), Offset(5));
    let as_it_is = replica.handle_tick(Time(3), END, anyone).unwrap();
    assert_eq!(members(&as_it_is), [0]);
    assert_eq!(replica.handle_tick(Time(4), END, anyone), None);
    replica.handle_isr_refused(Time(5), PartitionEpoch(1));
    assert_eq!(
        replica.handle_tick(Time(6), END, anyone),
        None,
        "refused as well"
    );
    assert_eq!(
        replica.handle_tick(Time(2_005), END, anyone),
        Some(as_it_is)
    );
    replica.handle_assignment(Time(2_006), &assignment(&[0], 2), ends(5));
    assert_eq!(replica.high_watermark(), Offset(5));
}

#[test]
fn an_unanswered_proposal_is_repeated() {
    let mut replica = leader(&[0], 1);
    pull(&mut replica, 1, 1, 0, 0);
    let first = replica.handle_tick(Time(1), END, anyone).unwrap();
    assert_eq!(replica.handle_tick(Time(1_999), END, anyone), None);
    assert_eq!(replica.handle_tick(Time(2_001), END, anyone), Some(first));
}

#[test]
fn pulls_of_other_epochs_are_refused() {
    let mut replica = leader(&[0, 1, 2], 1);
    let pull = |replica: &mut Replica, epoch| {
        replica.handle_pull(
            Time(0),
            puller(1, 7),
            LeaderEpoch(epoch),
            Offset(0),
            ends(0),
        )
    };
    assert!(matches!(
        pull(&mut replica, 2),
        Err(EpochError::Fenced { .. })
    ));
    assert!(matches!(
        pull(&mut replica, 4),
        Err(EpochError::Unknown { .. })
    ));
}

#[test]
fn a_follower_believes_the_leader_up_to_its_own_log_end() {
    let mut replica = leader(&[0, 1, 2], 1);
    let mut next = assignment(&[0, 1, 2], 5);
    next.leader = Some(BrokerId(1));
    next.leader_epoch = LeaderEpoch(4);
    let change = replica.handle_assignment(Time(0), &next, ends(0));
    assert_eq!(change, RoleChange::BecameFollower);
    assert_eq!(replica.handle_pulled(EPOCH), Pulled::Stale);
    assert_eq!(replica.handle_pulled(LeaderEpoch(4)), Pulled::Current);
    assert!(replica.handle_follower_append(Offset(20), Offset(8)));
    assert_eq!(replica.high_watermark(), Offset(8));
    assert_eq!(
        replica.admit(Time(1), Acks::Leader, None),
        Err(AppendError::NotLeader(NotLeader))
    );
}

#[test]
fn a_diverging_log_is_cut_at_the_earlier_end() {
    let divergence = Divergence {
        epoch: LeaderEpoch(2),
        end_offset: Offset(30),
    };
    assert_eq!(
        truncation_offset(divergence, Offset(25), Offset(40)),
        Offset(25)
    );
    assert_eq!(
        truncation_offset(divergence, Offset(35), Offset(40)),
        Offset(30)
    );
    assert_eq!(
        truncation_offset(divergence, Offset(35), Offset(20)),
        Offset(20)
    );
}

#[test]
fn sequences_are_dense_and_repetitions_are_recognised() {
    let mut producers = Producers::default();
    assert_eq!(
        producers.check(&batch(17, 17)),
        Ok(SequenceVerdict::Append),
        "unknown: anywhere"
    );
    for n in 0..6 {
        let next = batch(n * 10, n * 10 + 9);
        assert_eq!(producers.check(&next), Ok(SequenceVerdict::Append));
        producers.record(&next, Offset(i64::from(n) * 10), Timestamp(5));
    }
    assert_eq!(
        producers.check(&batch(20, 29)),
        Ok(SequenceVerdict::Duplicate {
            base_offset: Offset(20),
            end_offset: Offset(30),
            timestamp: Timestamp(5)
        })
    );
    assert_eq!(
        producers.check(&batch(61, 61)),
        Err(SequenceError::OutOfOrder {
            first: 61,
            last: 59
        })
    );
    let older = SequencedBatch {
        producer_epoch: ProducerEpoch(-1),
        ..batch(60, 60)
    };
    assert!(matches!(
        producers.check(&older),
        Err(SequenceError::FencedEpoch { .. })
    ));
    let newer = SequencedBatch {
        producer_epoch: ProducerEpoch(1),
        ..batch(0, 0)
    };
    assert_eq!(producers.check(&newer), Ok(SequenceVerdict::Append));
}

/// The client took the answer for an acknowledgement.
#[test]
fn a_producer_that_began_in_the_middle_was_told_that_what_comes_before_is_appended() {
    let mut producers = Producers::default();
    for sequence in 2..7 {
        let next = batch(sequence, sequence);
        assert_eq!(producers.check(&next), Ok(SequenceVerdict::Append));
        producers.record(&next, Offset(sequence.into()), Timestamp(1));
    }
    assert_eq!(
        producers.check(&batch(1, 1)),
        Err(SequenceError::OutOfOrder { first: 1, last: 6 })
    );
}

/// A producer goes on at the new leader while the former one owes it an answer, and asks the new one
/// only when it has given up on that. Java's client repeated the batch for as long as it lived.
#[test]
fn a_batch_that_was_appended_some_batches_ago_was_refused() {
    let mut producers = Producers::default();
    for n in 0..9 {
        let next = batch(n * 10, n * 10 + 9);
        producers.record(&next, Offset(i64::from(n) * 10), Timestamp(1));
    }
    let before = Ok(SequenceVerdict::AppendedBefore {
        end_offset: Offset(90),
    });
    assert_eq!(producers.check(&batch(0, 9)), before);
    assert_eq!(producers.check(&batch(35, 62)), before, "cut otherwise");
    let beyond = producers.check(&batch(85, 94));
    assert!(beyond.is_err(), "in part: {beyond:?}");
    producers.record(&batch(200, 200), Offset(90), Timestamp(1));
    let behind_a_gap = producers.check(&batch(0, 9));
    assert!(behind_a_gap.is_err(), "{behind_a_gap:?}");

    let mut producers = Producers::default();
    producers.record(&batch(i32::MAX - 1, i32::MAX), Offset(0), Timestamp(1));
    for n in 0..9 {
        producers.record(&batch(n, n), Offset(i64::from(n) + 2), Timestamp(1));
    }
    let wrapped = producers.check(&batch(i32::MAX, 0));
    let end_offset = Offset(11);
    assert_eq!(wrapped, Ok(SequenceVerdict::AppendedBefore { end_offset }));
    assert!(producers.check(&batch(i32::MAX - 2, 0)).is_err());
}

/// librdkafka answers a gap with a new producer epoch and sends again what an earlier leader had appended.
#[test]
fn a_batch_behind_one_that_was_refused_is_retried_after_it() {
    let admit = |replica: &mut Replica, at_ms, sequence| {
        replica.admit(Time(at_ms), Acks::All, Some(&batch(sequence, sequence)))
    };
    let mut replica = leader(&[0, 1], 2);
    for sequence in 0..3 {
        let offset = i64::from(sequence);
        let batch = batch(sequence, sequence);
        let appended = Some((&batch, Timestamp(1)));
        replica.handle_append(Time(1), appended, Offset(offset), Offset(offset + 1));
    }
    replica.handle_assignment(Time(2), &assignment(&[0], 2), ends(3));
    for sequence in [2, 3] {
        let refused = admit(&mut replica, 3, sequence);
        let too_few = matches!(refused, Err(AppendError::NotEnoughReplicas { .. }));
        assert!(too_few, "{refused:?}");
    }
    replica.handle_assignment(Time(4), &assignment(&[0, 1], 3), ends(3));
    let behind = Err(AppendError::BehindAwaited { awaited: 2 });
    assert_eq!(admit(&mut replica, 5, 4), behind);
    let repeated = admit(&mut replica, 6, 2);
    let is_duplicate = matches!(repeated, Ok(SequenceVerdict::Duplicate { .. }));
    assert!(is_duplicate, "{repeated:?}");
    assert_eq!(admit(&mut replica, 7, 3), Ok(SequenceVerdict::Append));
    replica.handle_append(
        Time(7),
        Some((&batch(3, 3), Timestamp(1))),
        Offset(3),
        Offset(4),
    );
}

/// When the lead moves, the former leader may still owe answers while new batches go to the new one.
/// librdkafka took the refusal for a reason to send everything again in a new epoch, also what was
/// appended: duplicates.
#[test]
fn a_batch_was_refused_for_good_while_the_former_leader_still_owed_the_answer_to_the_one_before() {
    let mut replica = leader(&[0], 1);
    let first = batch(0, 0);
    let admitted = replica.admit(Time(1), Acks::All, Some(&first));
    assert_eq!(admitted, Ok(SequenceVerdict::Append));
    let appended = Some((&first, Timestamp(1)));
    replica.handle_append(Time(1), appended, Offset(0), Offset(1));

    let mut admit = |at_ms, batch| replica.admit(Time(at_ms), Acks::All, Some(&batch));
    let behind = Err(AppendError::BehindAwaited { awaited: 1 });
    assert_eq!(admit(2, batch(2, 3)), behind);
    assert_eq!(admit(3, batch(4, 4)), behind);
    assert_eq!(admit(4, batch(1, 1)), Ok(SequenceVerdict::Append));

    let lost = Err(AppendError::Sequence(SequenceError::OutOfOrder {
        first: 2,
        last: 0,
    }));
    assert_eq!(admit(5_001, batch(2, 3)), behind);
    assert_eq!(admit(5_002, batch(2, 3)), lost, "in vain");
    replica.expire_producers(Time(41_000), Timestamp(0));
    let mut admit = |at_ms, batch| replica.admit(Time(at_ms), Acks::All, Some(&batch));
    assert_eq!(admit(41_000, batch(2, 3)), lost, "once");

    let second = batch(1, 1);
    let appended = Some((&second, Timestamp(1)));
    replica.handle_append(Time(41_001), appended, Offset(1), Offset(2));
    let elsewhere = Assignment {
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(4),
        ..assignment(&[0, 1], 2)
    };
    replica.handle_assignment(Time(42_000), &elsewhere, ends(2));
    let moved = Err(AppendError::NotLeader(NotLeader));
    let admit =
        |replica: &mut Replica, at_ms, batch| replica.admit(Time(at_ms), Acks::All, Some(&batch));
    assert_eq!(admit(&mut replica, 42_000, batch(2, 3)), moved);
    let back = Assignment {
        leader_epoch: LeaderEpoch(5),
        ..assignment(&[0], 3)
    };
    replica.handle_assignment(Time(50_000), &back, ends(2));
    assert_eq!(
        admit(&mut replica, 50_000, batch(4, 4)),
        Err(AppendError::BehindAwaited { awaited: 2 }),
        "the one that was refused some time ago is on its way again"
    );
}

/// The client lets the request to the former leader run into its time-out.
#[test]
fn a_missing_batch_is_awaited_for_longer_while_a_former_leader_may_be_cut_off() {
    let mut replica = leader(&[0], 1);
    let cut_off = |id| id != BrokerId(1);
    let first = batch(0, 0);
    let appended = Some((&first, Timestamp(1)));
    replica.handle_append(Time(1), appended, Offset(0), Offset(1));
    let behind = Err(AppendError::BehindAwaited { awaited: 1 });
    for at_ms in (1_000..=40_900).step_by(300) {
        let admitted = replica.admit(Time(at_ms), Acks::All, Some(&batch(2, 2)));
        assert_eq!(admitted, behind, "{at_ms}");
        replica.handle_tick(Time(at_ms), Offset(1), cut_off);
    }
    replica.handle_tick(Time(41_000), Offset(1), cut_off);
    let admitted = replica.admit(Time(41_000), Acks::All, Some(&batch(2, 2)));
    let lost = SequenceError::OutOfOrder { first: 2, last: 0 };
    assert_eq!(admitted, Err(AppendError::Sequence(lost)));
}

#[test]
fn what_lies_behind_a_producers_last_batches_is_refused_at_once() {
    let mut replica = leader(&[0], 1);
    let mut admit = |batch| replica.admit(Time(1), Acks::All, Some(&batch));
    let later_epoch = SequencedBatch {
        producer_epoch: ProducerEpoch(1),
        ..batch(3, 3)
    };
    assert_eq!(
        admit(later_epoch),
        Err(AppendError::BehindAwaited { awaited: 0 })
    );
    replica.handle_append(
        Time(1),
        Some((&batch(7, 9), Timestamp(1))),
        Offset(0),
        Offset(3),
    );
    let gap = replica.admit(Time(2), Acks::All, Some(&batch(3, 6)));
    let lost = SequenceError::OutOfOrder { first: 3, last: 9 };
    assert_eq!(gap, Err(AppendError::Sequence(lost)));
}

#[test]
fn a_new_leader_takes_a_new_producers_batches_in_the_order_in_which_they_were_refused_before() {
    let mut replica = leader(&[0], 1);
    let elsewhere = Assignment {
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(4),
        ..assignment(&[0, 1], 2)
    };
    replica.handle_assignment(Time(1), &elsewhere, ends(0));
    let first = replica.admit(Time(2), Acks::All, Some(&batch(0, 4)));
    assert_eq!(first, Err(AppendError::NotLeader(NotLeader)));
    let back = Assignment {
        leader_epoch: LeaderEpoch(5),
        ..assignment(&[0], 3)
    };
    replica.handle_assignment(Time(3), &back, ends(0));
    let second = replica.admit(Time(4), Acks::All, Some(&batch(5, 9)));
    assert_eq!(second, Err(AppendError::BehindAwaited { awaited: 0 }));
    let first = replica.admit(Time(5), Acks::All, Some(&batch(0, 4)));
    assert_eq!(first, Ok(SequenceVerdict::Append));
}

/// librdkafka took the one before for appended as well when this one was.
#[test]
fn a_producer_that_is_not_known_begins_in_the_middle_only_if_nothing_comes_before() {
    let mut replica = leader(&[0], 1);
    let behind = Err(AppendError::BehindAwaited { awaited: 0 });
    for at_ms in [1, 2_000, 5_000] {
        let second = replica.admit(Time(at_ms), Acks::All, Some(&batch(1, 1)));
        assert_eq!(second, behind);
    }
    let forgotten = replica.admit(Time(5_001), Acks::All, Some(&batch(1, 1)));
    assert_eq!(forgotten, Ok(SequenceVerdict::Append));

    let mut replica = leader(&[0], 1);
    assert_eq!(
        replica.admit(Time(1), Acks::All, Some(&batch(1, 1))),
        behind
    );
    let first = batch(0, 0);
    let admitted = replica.admit(Time(2), Acks::All, Some(&first));
    assert_eq!(admitted, Ok(SequenceVerdict::Append));
    let appended = Some((&first, Timestamp(1)));
    replica.handle_append(Time(2), appended, Offset(0), Offset(1));
    let second = replica.admit(Time(3), Acks::All, Some(&batch(1, 1)));
    assert_eq!(second, Ok(SequenceVerdict::Append));
}

#[test]
fn sequences_wrap() {
    let mut producers = Producers::default();
    producers.record(&batch(i32::MAX - 1, i32::MAX), Offset(0), Timestamp(0));
    assert_eq!(producers.check(&batch(0, 3)), Ok(SequenceVerdict::Append));
    producers.record(&batch(i32::MAX, 2), Offset(2), Timestamp(0));
    let ends: Vec<_> = producers
        .snapshot()
        .filter_map(|entry| Some(entry.batch?.base_offset))
        .collect();
    assert_eq!(ends, [Offset(0), Offset(2)]);
}

#[test]
fn waiting_answers_leave_in_order() {
    let mut queue = WaitQueue::default();
    queue.push(Offset(5), 'a');
    queue.push(Offset(9), 'c');
    queue.push(Offset(7), 'b');
    assert_eq!(queue.release(Offset(4)).count(), 0);
    assert_eq!(queue.release(Offset(7)).collect::<Vec<_>>(), ['a', 'b']);
    queue.retain(|item| *item != 'c');
    assert!(queue.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Append(i64),
    Pull(i32, i64),
    Tick(u64),
    Commit,
    Refuse,
    CommitRefused,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1..5i64).prop_map(Step::Append),
        (1..3i32, 0..6i64).prop_map(|(follower, behind)| Step::Pull(follower, behind)),
        (0..15_000u64).prop_map(Step::Tick),
        Just(Step::Commit),
        Just(Step::Refuse),
        Just(Step::CommitRefused),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    /// The high watermark never falls, and never passes the position of a member of the ISR that
    /// the controller has committed.
    #[test]
    fn high_watermark_is_monotonic_and_replicated(steps in steps()) {
        let mut replica = leader(&[0, 1, 2], 2);
        let (mut now, mut end, mut epoch) = (0, 0i64, 1);
        let mut committed = vec![0, 1, 2];
        let mut proposed: Option<Vec<i32>> = None;
        let mut refused: Option<Vec<i32>> = None;
        let mut positions = [0i64, -1, -1];
        for step in steps {
            let before = replica.high_watermark();
            match step {
                Step::Append(count) => {
                    end += count;
                    replica.handle_append(Time(now), None, Offset(end - count), Offset(end));
                }
                Step::Pull(follower, behind) => {
                    let at = (end - behind).max(positions[follower as usize]).max(0);
                    positions[follower as usize] = at;
                    pull(&mut replica, now, follower, at, end);
                }
                Step::Tick(ms) => {
                    now += ms;
                    if let Some(proposal) = replica.handle_tick(Time(now), Offset(end), anyone) {
                        proposed = Some(members(&proposal));
                    }
                }
                Step::Commit | Step::CommitRefused => if let Some(isr) = match step {
                    Step::Commit => proposed.take(),
                    _ => refused.take(),
                } {
                    (proposed, refused) = (None, None);
                    epoch += 1;
                    committed = isr;
                    replica.handle_assignment(Time(now), &assignment(&committed, epoch), ends(end));
                },
                Step::Refuse => if let Some(isr) = proposed.take() {
                    refused.get_or_insert(isr);
                    replica.handle_isr_refused(Time(now), PartitionEpoch(epoch));
                },
            }
            positions[0] = end;
            prop_assert!(replica.high_watermark() >= before);
            if replica.high_watermark() > before {
                prop_assert!(committed.len() >= 2);
                for member in &committed {
                    prop_assert!(replica.high_watermark().0 <= positions[*member as usize]);
                }
            }
        }
    }
}
