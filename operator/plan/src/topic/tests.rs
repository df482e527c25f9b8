use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use klamm_crds::ConfigValue;

use super::*;
use crate::testing;

const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

fn now() -> Timestamp {
    testing::now()
}

fn planned(topic: &Topic, observed: &Observed) -> Plan {
    plan(topic, observed, now())
}

fn ready_cluster() -> KafkaCluster {
    let mut cluster = testing::cluster();
    let verdict = Verdict::new(Truth::True, "Serving", "");
    let status = cluster.status.get_or_insert_default();
    status.conditions = vec![verdict.into_condition("Ready", &[], None, now())];
    cluster
}

fn observed(live: Option<LiveTopic>) -> Observed {
    Observed {
        cluster: Some(ready_cluster()),
        siblings: Vec::new(),
        admin: Admin::Answered(testing::healthy(3)),
        live,
    }
}

fn live(partitions: usize) -> LiveTopic {
    LiveTopic {
        topic_id: ID.to_owned(),
        partitions: (0..partitions).map(|_| vec![0, 1, 2]).collect(),
        offline_partitions: 0,
        config: BTreeMap::from([("min.insync.replicas".to_owned(), "2".to_owned())]),
    }
}

fn known() -> Topic {
    let mut topic = testing::topic();
    let status = topic.status.get_or_insert_default();
    status.topic_id = Some(ID.to_owned());
    status.managed_config = vec!["min.insync.replicas".to_owned()];
    topic
}

fn with_finalizer(mut topic: Topic) -> Topic {
    topic.spec.deletion_policy = DeletionPolicy::Delete;
    topic.metadata.finalizers = Some(vec![naming::TOPIC_FINALIZER.to_owned()]);
    topic
}

fn deleted(mut topic: Topic) -> Topic {
    topic.metadata.deletion_timestamp = Some(Time(now()));
    topic
}

fn reason(plan: &Plan) -> String {
    let condition = plan.status.conditions.last().unwrap();
    format!(
        "{}={} {}",
        condition.type_, condition.status, condition.reason
    )
}

#[test]
fn a_new_topic_is_placed_over_the_zones_and_created_once() {
    let plan = planned(&testing::topic(), &observed(None));
    let [
        Action::Create {
            assignments,
            config,
        },
    ] = plan.actions.as_slice()
    else {
        panic!("{:?}", plan.actions);
    };
    assert_eq!(assignments.len(), 12);
    for replicas in assignments {
        assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), 3);
    }
    for broker in 0..3 {
        let leaders = assignments
            .iter()
            .filter(|replicas| replicas[0] == broker)
            .count();
        assert_eq!(leaders, 4, "leaders are even");
    }
    assert_eq!(config["min.insync.replicas"], "2");

    let created = planned(&testing::topic(), &observed(Some(live(12))));
    assert_eq!(created.actions, []);
    assert_eq!(reason(&created), "Ready=True Synced");
    assert_eq!(created.status.topic_id.as_deref(), Some(ID));
    assert_eq!(created.status.replication_factor, Some(3));
}

#[test]
fn brokers_that_leave_get_no_replicas_of_new_topics() {
    let mut facts = testing::healthy(5);
    facts.brokers.get_mut(&1).unwrap().cordoned = true;
    facts.brokers.get_mut(&4).unwrap().drain = true;
    let observed = Observed {
        admin: Admin::Answered(facts),
        ..observed(None)
    };
    let plan = planned(&testing::topic(), &observed);
    let [Action::Create { assignments, .. }] = plan.actions.as_slice() else {
        panic!("{:?}", plan.actions);
    };
    let used: BTreeSet<_> = assignments.iter().flatten().copied().collect();
    assert_eq!(used, BTreeSet::from([0, 2, 3]));
}

#[test]
fn partitions_grow_and_config_follows_the_spec() {
    let mut topic = known();
    topic.spec.partitions = 15;
    topic.spec.config =
        BTreeMap::from([("retention.ms".to_owned(), ConfigValue::Integer(3_600_000))]);
    let mut live = live(12);
    live.config
        .insert("segment.bytes".to_owned(), "1048576".to_owned());
    let plan = planned(&topic, &observed(Some(live)));
    let [
        Action::Alter {
            partitions_expected,
            added_partitions,
            set_config,
            reset_config,
            ..
        },
    ] = plan.actions.as_slice()
    else {
        panic!("{:?}", plan.actions);
    };
    assert_eq!((*partitions_expected, added_partitions.len()), (12, 3));
    assert_eq!(set_config["retention.ms"], "3600000");
    assert_eq!(reset_config, &["min.insync.replicas"]);
    assert!(
        plan.status
            .unmanaged_config
            .contains(&"segment.bytes".to_owned())
    );
}

#[test]
fn what_cannot_be_done_is_said_and_not_done() {
    let wider = {
        let mut live = live(12);
        live.partitions = vec![vec![0, 1]; 12];
        live
    };
    let unreachable = Observed {
        admin: Admin::Unreachable("time-out".to_owned()),
        ..observed(Some(live(12)))
    };
    let clusterless = Observed {
        cluster: None,
        ..observed(None)
    };
    let starting = Observed {
        cluster: Some(testing::cluster()),
        ..observed(None)
    };
    let two_brokers = Observed {
        admin: Admin::Answered(testing::healthy(2)),
        ..observed(None)
    };
    let other_id = LiveTopic {
        topic_id: "another".to_owned(),
        ..live(12)
    };
    let offline = LiveTopic {
        offline_partitions: 1,
        ..live(12)
    };
    let cases = [
        (
            testing::topic(),
            observed(Some(live(6))),
            "Ready=False TopicExists",
        ),
        (
            known(),
            observed(Some(live(24))),
            "Ready=False TooManyPartitions",
        ),
        (
            known(),
            observed(Some(wider)),
            "Ready=False ReplicationFactorDiffers",
        ),
        (known(), observed(None), "Ready=False TopicMissing"),
        (
            known(),
            observed(Some(other_id)),
            "Ready=False TopicReplaced",
        ),
        (
            known(),
            observed(Some(offline)),
            "Ready=False PartitionsOffline",
        ),
        (known(), unreachable, "Ready=Unknown ClusterUnreachable"),
        (testing::topic(), clusterless, "Ready=False ClusterMissing"),
        (testing::topic(), starting, "Ready=False ClusterStarting"),
        (
            testing::topic(),
            two_brokers,
            "Ready=False PlacementImpossible",
        ),
    ];
    for (topic, observed, expected) in cases {
        let plan = planned(&topic, &observed);
        assert_eq!(reason(&plan), expected);
        assert_eq!(plan.actions, [], "{expected}");
        assert!(!plan.settled);
    }
}

#[test]
fn adoption_follows_its_policy() {
    let cases = [
        (AdoptionPolicy::IfMatches, 12, "Ready=True Synced"),
        (AdoptionPolicy::IfMatches, 6, "Ready=False TopicExists"),
        (AdoptionPolicy::Always, 6, "Ready=False Altering"),
        (AdoptionPolicy::Never, 12, "Ready=False TopicExists"),
    ];
    for (policy, partitions, expected) in cases {
        let mut topic = testing::topic();
        topic.spec.adoption_policy = policy;
        let plan = planned(&topic, &observed(Some(live(partitions))));
        assert_eq!(reason(&plan), expected, "{policy:?} {partitions}");
    }
}

#[test]
fn the_oldest_of_two_objects_wins() {
    let mut older = testing::topic();
    older.metadata.name = Some("older".to_owned());
    older.spec.topic_name = Some("events".to_owned());
    older.metadata.uid = Some("older".to_owned());
    older.metadata.creation_timestamp = Some(Time(Timestamp::from_second(1).unwrap()));
    let mut topic = testing::topic();
    topic.metadata.creation_timestamp = Some(Time(Timestamp::from_second(2).unwrap()));
    let both = Observed {
        siblings: vec![older.clone(), topic.clone()],
        ..observed(None)
    };
    assert_eq!(reason(&planned(&topic, &both)), "Ready=False Conflict");
    assert_eq!(reason(&planned(&older, &both)), "Ready=False Creating");
}

#[test]
fn a_vanished_topic_is_made_again_only_on_demand() {
    let mut topic = known();
    let annotation = (RECREATE_ANNOTATION.to_owned(), ID.to_owned());
    topic.metadata.annotations = Some(BTreeMap::from([annotation]));
    let plan = planned(&topic, &observed(None));
    assert!(matches!(plan.actions.as_slice(), [Action::Create { .. }]));
}

#[test]
fn the_finalizer_follows_the_policy() {
    let mut delete = known();
    delete.spec.deletion_policy = DeletionPolicy::Delete;
    let plan = planned(&delete, &observed(Some(live(12))));
    assert_eq!(plan.actions, [Action::AddFinalizer]);
    let mut retain = with_finalizer(known());
    retain.spec.deletion_policy = DeletionPolicy::Retain;
    let plan = planned(&retain, &observed(Some(live(12))));
    assert_eq!(plan.actions, [Action::RemoveFinalizer]);
}

#[test]
fn deletion_deletes_only_what_is_certainly_ours() {
    let ours = deleted(with_finalizer(known()));
    let never_made = deleted(with_finalizer(testing::topic()));
    let delete = vec![
        Action::Delete {
            topic_id: ID.to_owned(),
        },
        Action::RemoveFinalizer,
    ];
    let leave = vec![Action::RemoveFinalizer];
    let other_id = LiveTopic {
        topic_id: "another".to_owned(),
        ..live(12)
    };
    let gone = Observed {
        cluster: None,
        ..observed(None)
    };
    let cases = [
        (&ours, observed(Some(live(12))), delete),
        (&ours, observed(Some(other_id)), leave.clone()),
        (&ours, observed(None), leave.clone()),
        (&ours, gone, leave.clone()),
        (&never_made, observed(Some(live(12))), leave),
        (&deleted(known()), observed(Some(live(12))), Vec::new()),
    ];
    for (topic, observed, expected) in cases {
        assert_eq!(planned(topic, &observed).actions, expected);
    }
    let unreachable = Observed {
        admin: Admin::Unreachable("time-out".to_owned()),
        ..observed(Some(live(12)))
    };
    let blocked = planned(&ours, &unreachable);
    assert_eq!(blocked.actions, []);
    assert_eq!(reason(&blocked), "DeletionBlocked=True ClusterUnreachable");
}
