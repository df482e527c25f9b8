//! Brokers and voters that come and go.

use super::*;

#[test]
fn scaling_up_touches_no_running_broker() {
    let mut world = World::new();
    world.settle();
    let before: Vec<_> = world
        .revisions()
        .into_iter()
        .map(|r| r.map(str::to_owned))
        .collect();
    world.cluster.spec.pools[0].replicas = 5;
    assert_eq!(world.settle(), 0);
    let after = world.revisions();
    assert_eq!(after.len(), 5);
    assert!(
        before
            .iter()
            .zip(after)
            .all(|(before, after)| before.as_deref() == after)
    );
    let status = world.cluster.status.as_ref().unwrap();
    assert_eq!(status.voters, [0, 1, 2]);
    assert_eq!(status.brokers[3].zone.as_deref(), Some("a"));
    assert_eq!(status.brokers[4].zone.as_deref(), Some("b"));
}

fn ids(world: &World) -> Vec<i32> {
    let status = world.cluster.status.as_ref().unwrap();
    status.brokers.iter().map(|broker| broker.id).collect()
}

#[test]
fn a_removed_broker_leaves_nothing_but_its_volume_and_its_id_is_not_given_again() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 5;
    world.settle();
    let revisions = |world: &World| -> Vec<_> {
        let revisions = world.revisions().into_iter();
        revisions
            .map(|revision| revision.map(str::to_owned))
            .collect()
    };
    let before = revisions(&world);
    world.cluster.spec.pools[0].replicas = 4;
    world.cluster.spec.pools[0].remove = vec![1];
    assert_eq!(world.settle(), 1, "no other broker is stopped");
    assert_eq!(ids(&world), [0, 2, 3, 4]);
    let status = world.cluster.status.as_ref().unwrap();
    assert_eq!(
        status.voters,
        [0, 2, 4],
        "the vote goes to the broker of the same zone"
    );
    assert_eq!(revisions(&world), [&before[..1], &before[2..]].concat());
    let services = world.observed.services.iter();
    let of_removed = |service: &&Service| name(&service.metadata).ends_with("external-1");
    assert_eq!(services.filter(of_removed).count(), 0);
    assert_eq!(world.observed.volumes.len(), 5);
    world.cluster.spec.pools[0].replicas = 5;
    world.settle();
    assert_eq!(ids(&world), [0, 2, 3, 4, 5]);

    let mut again = World::new();
    again.cluster.spec.pools[0].replicas = 5;
    again.observed.volumes = world.observed.volumes.clone();
    again.settle();
    assert_eq!(ids(&again), [0, 2, 3, 4, 5], "a retired volume is nobody's");
}

#[test]
fn a_retired_volume_tells_nothing_of_the_cluster_but_the_id_that_was_given() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 4;
    world.settle();
    world.cluster.spec.pools[0].replicas = 3;
    world.cluster.spec.pools[0].remove = vec![0];
    world.settle();
    world.cluster.spec.controllers.count = 1;
    world.settle();
    let mut volumes = world.observed.volumes.clone();
    volumes.sort_by_key(|volume| volume.metadata.name.clone());
    let status = world.cluster.status.unwrap();

    let mut again = World::new();
    again.observed.volumes.clone_from(&volumes);
    again.observed.fresh_cluster_id = "another".to_owned();
    let first = again.plan().record_first.unwrap();
    assert_eq!(first.cluster_id, status.cluster_id);
    assert_eq!(first.voters, status.voters);

    let mut afresh = World::new();
    afresh.observed.volumes = volumes[..1].to_vec();
    afresh.observed.fresh_cluster_id = "another".to_owned();
    let first = afresh.plan().record_first.unwrap();
    assert_eq!(first.cluster_id.as_deref(), Some("another"));
    assert_eq!(first.next_broker_id, 4);
}

#[test]
fn volumes_of_removed_brokers_are_deleted_only_if_asked_to() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 4;
    world.settle();
    world.cluster.spec.scale_down.volume_policy = DeletionPolicy::Delete;
    world.settle();
    assert_eq!(world.observed.volumes.len(), 4);
    world.cluster.spec.pools[0].replicas = 3;
    world.settle();
    assert_eq!(world.observed.volumes.len(), 3);
    assert_eq!(ids(&world), [0, 1, 2]);
}

#[test]
fn a_removal_is_taken_back_at_any_step() {
    for passes in 0..20 {
        let mut world = World::new();
        world.cluster.spec.pools[0].replicas = 4;
        world.settle();
        world.cluster.spec.pools[0].replicas = 3;
        world.cluster.spec.pools[0].remove = vec![2];
        for _ in 0..passes {
            let plan = world.plan();
            world.carry_out(&plan);
            world.start_pods();
        }
        world.cluster.spec.pools[0].replicas = 4;
        world.settle();
        let facts = world.observed.admin.confirmed().unwrap();
        assert_eq!(facts.brokers.len(), 4);
        assert!(
            facts
                .brokers
                .values()
                .all(|broker| !broker.cordoned && !broker.drain)
        );
        let status = world.cluster.status.as_ref().unwrap();
        assert!(
            status.brokers.iter().all(|broker| !broker.leaving),
            "{status:?}"
        );
        assert_eq!(status.voters.len(), 3);
    }
}

#[test]
fn a_broker_whose_configuration_names_no_voter_any_more_gets_another_one() {
    let mut world = World::new();
    world.settle();
    world.cluster.spec.pools[0].replicas = 6;
    world.settle();
    world.cluster.spec.pools[0].replicas = 4;
    world.cluster.spec.pools[0].remove = vec![0, 1];
    assert_eq!(world.settle(), 2, "the others still find broker 2");
    world.cluster.spec.pools[0].replicas = 3;
    world.cluster.spec.pools[0].remove = vec![2];
    assert_eq!(world.settle(), 4 + 1, "each starts anew, and one stops");
    assert_eq!(ids(&world), [3, 4, 5]);
    assert_eq!(world.cluster.status.as_ref().unwrap().voters, [3, 4, 5]);
    assert_eq!(world.settle(), 0);
}

#[test]
fn voters_become_more_and_fewer_without_a_restart() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 5;
    world.settle();
    for (count, voters) in [(5, vec![0, 1, 2, 3, 4]), (1, vec![0]), (3, vec![0, 1, 2])] {
        world.cluster.spec.controllers.count = count;
        assert_eq!(world.settle(), 0);
        assert_eq!(world.cluster.status.as_ref().unwrap().voters, voters);
    }
}

/// Broker 3 of four does not run, and restarts are pending.
fn with_a_broker_down_in_the_middle_of_restarts() -> World {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 4;
    world.settle();
    let config = &mut world.cluster.spec.config;
    config.insert("num.partitions".to_owned(), ConfigValue::Integer(6));
    for _ in 0..6 {
        let plan = world.plan();
        world.carry_out(&plan);
        world.start_pods();
        let mut pods = world.observed.pods.iter_mut();
        let pod = pods.find(|pod| name(&pod.metadata).ends_with("-3-0"));
        let status = json!({
            "phase": "Pending",
            "conditions": [{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable" }],
        });
        pod.unwrap().status = serde_json::from_value(status).unwrap();
        world.facts(|facts| {
            let broker = facts.brokers.get_mut(&3).unwrap();
            broker.state = BrokerState::Fenced;
            broker.replicas = 9;
        });
    }
    assert!(world.plan().action.is_none());
    assert_eq!(world.condition("Progressing"), "True RolloutWaiting");
    world
}

#[test]
fn a_broker_that_is_down_can_be_removed_though_restarts_wait_for_it() {
    let mut world = with_a_broker_down_in_the_middle_of_restarts();
    world.cluster.spec.pools[0].replicas = 3;
    let mut taken = Vec::new();
    for _ in 0..4 {
        let plan = world.plan();
        if let Some(Action::Scale(step)) = &plan.action {
            taken.push(step.clone());
        }
        world.carry_out(&plan);
    }
    assert_eq!(taken, [scale::Step::Cordon(3), scale::Step::Drain(3)]);
    assert_eq!(world.condition("Progressing"), "True ScalingDown");
    let status = world.cluster.status.as_ref().unwrap();
    assert_eq!(status.brokers[3].replicas_left, Some(9));
    world.facts(|facts| facts.brokers.get_mut(&3).unwrap().replicas = 0);
    world.settle();
    assert_eq!(ids(&world), [0, 1, 2]);
    assert_eq!(world.condition("UpToDate"), "True Current");
}

#[test]
fn nothing_else_joins_or_leaves_while_restarts_wait() {
    let mut world = with_a_broker_down_in_the_middle_of_restarts();
    world.cluster.spec.pools[0].replicas = 3;
    world.cluster.spec.pools[0].remove = vec![2];
    let plan = world.plan();
    assert!(plan.action.is_none(), "{:?}", plan.action);
}

#[test]
fn a_broker_that_is_emptied_for_long_without_progress_degrades_the_cluster() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 4;
    world.settle();
    world.cluster.spec.pools[0].replicas = 3;
    world.facts(|facts| facts.brokers.get_mut(&3).unwrap().replicas = 9);
    for _ in 0..5 {
        let plan = world.plan();
        world.carry_out(&plan);
    }
    assert_eq!(world.condition("Degraded"), "False FullyReplicated");
    let progress = DrainProgress::Known {
        bytes_left: None,
        last_progress_at: Some(testing::started_at()),
        blocked: None,
    };
    let mut observed = world.observed.clone();
    observed.quorum = Some(testing::quorum(&[0, 1, 2]));
    observed.answers.drains.insert(3, progress);
    let plan = plan(&world.cluster, &observed, testing::now());
    world.cluster.status = Some(plan.status);
    assert_eq!(world.condition("Degraded"), "True DrainStalled");
    assert_eq!(world.condition("Ready"), "True Serving");
}

fn joining(world: &World) -> Vec<i32> {
    let brokers = world.cluster.status.as_ref().unwrap().brokers.iter();
    let joining = brokers.filter(|broker| broker.joining);
    joining.map(|broker| broker.id).collect()
}

/// A fourth broker was added, and replicas move onto it.
fn rebalancing() -> World {
    let mut world = World::new();
    world.settle();
    assert_eq!(joining(&world), [0; 0], "a new cluster has nothing to move");
    world.cluster.spec.pools[0].replicas = 4;
    world.uneven = 9;
    for _ in 0..20 {
        let plan = world.plan();
        world.carry_out(&plan);
        world.start_pods();
    }
    assert!(world.observed.admin.confirmed().unwrap().rebalancing);
    assert_eq!(joining(&world), [3]);
    assert_eq!(world.condition("Progressing"), "True Rebalancing");
    world
}

#[test]
fn replicas_move_onto_an_added_broker_and_the_status_tells_how_many_are_left() {
    let mut world = rebalancing();
    let status = world.cluster.status.as_ref().unwrap().rebalance.clone();
    let told = status.unwrap();
    assert_eq!((told.partitions_left, told.partitions_moving), (9, 2));
    assert_eq!(told.last_progress_time.unwrap().0, testing::started_at());
    world.uneven = 0;
    world.facts(|facts| facts.rebalancing = false);
    world.settle();
    assert_eq!(joining(&world), [0; 0]);
    assert_eq!(world.cluster.status.as_ref().unwrap().rebalance, None);
    assert_eq!(world.condition("Progressing"), "False Stable");
    world.uneven = 5;
    assert!(idle(&world.plan()), "uneven for another reason");
}

#[test]
fn a_rebalance_that_is_disabled_goes_on_when_it_is_enabled_again() {
    let mut world = rebalancing();
    world.cluster.spec.rebalance.mode = RebalanceMode::Disabled;
    world.settle();
    assert!(!world.observed.admin.confirmed().unwrap().rebalancing);
    assert_eq!(world.condition("Progressing"), "False Stable");
    assert_eq!(joining(&world), [3]);
    world.cluster.spec.rebalance.mode = RebalanceMode::OnScaleUp;
    let plan = world.plan();
    assert!(matches!(
        plan.action,
        Some(Action::Scale(scale::Step::StartRebalance))
    ));
}

#[test]
fn a_rebalance_makes_room_for_restarts_and_goes_on_after_them() {
    let mut world = rebalancing();
    let config = &mut world.cluster.spec.config;
    config.insert("num.partitions".to_owned(), ConfigValue::Integer(6));
    let plan = world.plan();
    assert!(matches!(
        plan.action,
        Some(Action::Scale(scale::Step::CancelRebalance))
    ));
    world.carry_out(&plan);
    let plan = world.plan();
    assert!(
        matches!(plan.action, Some(Action::Prepare { .. })),
        "{:?}",
        plan.action
    );
    let mut steps = Vec::new();
    for _ in 0..20 {
        let plan = world.plan();
        world.carry_out(&plan);
        world.start_pods();
        if let Some(Action::Scale(step)) = plan.action {
            steps.push(step);
        }
    }
    assert_eq!(steps, [scale::Step::StartRebalance]);
    assert_eq!(world.condition("UpToDate"), "True Current");
}

#[test]
fn a_broker_that_is_kept_after_all_gets_its_share_back() {
    let mut world = World::new();
    world.cluster.spec.pools[0].replicas = 4;
    world.settle();
    world.cluster.spec.pools[0].replicas = 3;
    world.facts(|facts| facts.brokers.get_mut(&3).unwrap().replicas = 9);
    for _ in 0..5 {
        let plan = world.plan();
        world.carry_out(&plan);
    }
    assert!(world.observed.admin.confirmed().unwrap().brokers[&3].drain);
    world.cluster.spec.pools[0].replicas = 4;
    world.uneven = 4;
    for _ in 0..5 {
        let plan = world.plan();
        world.carry_out(&plan);
    }
    assert_eq!(joining(&world), [3]);
    assert!(world.observed.admin.confirmed().unwrap().rebalancing);
}
