use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::cluster::{Cluster, create_topic, eventually, has_topic, is_unfenced};
use crate::previous_run::Kept;

/// For a heartbeat and its answer.
const ENOUGH: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_hands_over_its_leaders_before_it_stops() {
    let mut cluster = Cluster::start(1, 2).await;
    cluster.join_all();
    for id in (0..3).map(BrokerId) {
        cluster
            .everywhere("all are unfenced", is_unfenced(id))
            .await;
    }
    let (leaving, staying) = (BrokerId(1), BrokerId(2));
    cluster
        .any()
        .submit_ok(create_topic("moves", &[leaving, staying]))
        .await;
    cluster
        .everywhere("the topic is there", has_topic("moves"))
        .await;

    let controller = Arc::clone(&cluster.nodes[&leaving].controller);
    assert!(controller.request_shutdown(Duration::from_secs(10)).await);
    let moved = cluster.nodes[&BrokerId(0)].controller.image();
    let topic = moved.topic_by_name("moves").unwrap();
    assert_eq!(topic.partitions[0].leader, Some(staying));
    let stopped = Instant::now();
    drop(controller);
    cluster.kill(leaving).await;
    cluster
        .everywhere("it is fenced at once", move |image| {
            image.brokers[&leaving].fenced
        })
        .await;
    assert!(
        stopped.elapsed() < Duration::from_secs(1),
        "{:?}",
        stopped.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_on_a_full_disk_was_never_written_down() {
    const FULL_ATTEMPTS: usize = 3;
    let cluster = Cluster::start(1, 0).await;
    let node = cluster.any();
    let (attempts, mut attempted) = watch::channel(Vec::new());
    node.join_keeping("first", move |epoch| {
        attempts.send_modify(|epochs| epochs.push(epoch));
        if attempts.borrow().len() > FULL_ATTEMPTS {
            Kept::Settled
        } else {
            Kept::NoSpace
        }
    });
    let tried = attempted.wait_for(|epochs| epochs.len() > FULL_ATTEMPTS);
    let epochs = timeout(Duration::from_secs(30), tried).await;
    let epochs = epochs.expect("it is tried again").unwrap().clone();
    let registered = node.controller.broker_epoch();
    assert!(epochs.iter().all(|epoch| Some(*epoch) == registered));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_broker_is_fenced_in_a_second_and_comes_back_under_a_new_epoch() {
    let mut cluster = Cluster::start(1, 1).await;
    cluster.join_all();
    let id = BrokerId(1);
    cluster.everywhere("it is unfenced", is_unfenced(id)).await;
    let first = cluster.nodes[&id].controller.broker_epoch().unwrap();

    let killed = Instant::now();
    cluster.kill(id).await;
    cluster
        .everywhere("it is fenced", move |image| image.brokers[&id].fenced)
        .await;
    let fenced = killed.elapsed();
    println!("fenced after {fenced:?}");
    assert!(fenced < Duration::from_secs(4), "{fenced:?}");

    cluster.start_node(id).await;
    cluster.nodes[&id].join("second");
    cluster.everywhere("it is back", is_unfenced(id)).await;
    eventually("it knows its epoch", async || {
        cluster.nodes[&id].controller.broker_epoch() > Some(first)
    })
    .await;
    assert!(!cluster.nodes[&id].controller.is_fenced());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controller_answers_when_it_comes_up_later_than_the_broker() {
    let mut cluster = Cluster::start(1, 1).await;
    cluster.kill(BrokerId(0)).await;
    cluster.join_all();
    cluster.start_node(BrokerId(0)).await;
    cluster.nodes[&BrokerId(0)].join("first");
    cluster
        .everywhere("both are unfenced", is_unfenced(BrokerId(1)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_knew_metadata_was_unfenced_before_it_had_applied_it() {
    let cluster = Cluster::start(1, 1).await;
    let (controller, id) = (&cluster.nodes[&BrokerId(0)], BrokerId(1));
    let lagging = &cluster.nodes[&id];
    lagging.join_without_applying("first");
    lagging
        .image("it is registered", |image| image.brokers.contains_key(&id))
        .await;
    eventually("the controller hears of it", async || {
        controller.controller.hosted_bytes(id).is_some()
    })
    .await;
    controller.join("first");
    for topic in ["one", "two", "three"] {
        controller
            .image("the controller is unfenced", is_unfenced(BrokerId(0)))
            .await;
        controller.create_topic(topic).await;
        lagging
            .image("it knows of the topic", has_topic(topic))
            .await;
    }
    assert!(lagging.controller.is_fenced());

    let known = lagging.controller.metadata_offset();
    lagging.controller.metadata_applied(known);
    cluster.everywhere("it is unfenced", is_unfenced(id)).await;
}

/// The coordinator of a group answered with offsets that its successor had replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_behind_with_its_metadata_did_not_know_of_its_successor() {
    let cluster = Cluster::start(1, 1).await;
    let [voter, slow] = [0, 1].map(|id| &cluster.nodes[&BrokerId(id)]);
    voter.join("first");
    slow.join_without_applying("first");
    slow.image("its registration", |image| {
        image.brokers.contains_key(&BrokerId(1))
    })
    .await;
    let apply = || {
        let known = slow.controller.positions().borrow().offset;
        slow.controller.metadata_applied(known);
    };
    apply();
    let confirmed = async || slow.controller.confirm_leadership(ENOUGH).await;
    eventually("it is unfenced and has applied that", async || {
        apply();
        confirmed().await
    })
    .await;
    voter
        .image("it may have replicas", is_unfenced(BrokerId(0)))
        .await;
    voter.create_topic("moves").await;
    cluster
        .everywhere("the topic is there", has_topic("moves"))
        .await;
    assert!(!confirmed().await, "it has heard of it and done nothing");
    apply();
    assert!(confirmed().await);
}
