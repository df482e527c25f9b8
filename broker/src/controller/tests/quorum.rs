use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use klamm_proto::v1::controller_client::ControllerClient;
use klamm_proto::v1::raft_client::RaftClient;
use klamm_proto::v1::{RaftMessage, SubmitRequest};
use tokio::time::Instant;
use tonic::Code;

use super::cluster::{
    Cluster, FREQUENT_SNAPSHOTS, checkpoints, create_topic, eventually, has_topic, is_unfenced,
};
use crate::rpc::{self, Token};

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_every_broker_commit_everywhere() {
    let cluster = Cluster::start(3, 1).await;
    cluster.join_all();
    for id in (0..4).map(BrokerId) {
        cluster
            .everywhere("all are unfenced", is_unfenced(id))
            .await;
    }
    for (id, node) in &cluster.nodes {
        node.create_topic(&format!("from-{id}")).await;
    }
    for id in 0..4 {
        cluster
            .everywhere("the topics are there", has_topic(&format!("from-{id}")))
            .await;
    }
    let expected = cluster.any().controller.image();
    assert_eq!(expected.cluster_id, super::cluster::CLUSTER_ID);
    for node in cluster.nodes.values() {
        assert_eq!(node.controller.image(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_is_replaced_and_its_broker_fenced() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    for id in (0..3).map(BrokerId) {
        cluster
            .everywhere("all are unfenced", is_unfenced(id))
            .await;
    }
    let leader = cluster.leader().await;
    let next = BrokerId((leader.0 + 1) % 3);
    cluster
        .any()
        .submit_ok(create_topic("moves", &[leader, next]))
        .await;
    cluster
        .everywhere("the topic is there", has_topic("moves"))
        .await;

    let killed = Instant::now();
    cluster.kill(leader).await;
    cluster.leader().await;
    cluster.any().create_topic_on("after", next).await;
    let replaced = killed.elapsed();
    cluster
        .everywhere("the dead controller's partitions moved", |image| {
            let topic = image.topic_by_name("moves");
            topic.is_some_and(|topic| topic.partitions[0].leader == Some(next))
        })
        .await;
    let moved = killed.elapsed();
    println!("new controller after {replaced:?}, leaders moved after {moved:?}");
    assert!(replaced < Duration::from_secs(5), "{replaced:?}");
    assert!(moved < Duration::from_secs(8), "{moved:?}");

    cluster.start_node(leader).await;
    cluster.nodes[&leader].join("second");
    cluster
        .everywhere("the old controller is back", is_unfenced(leader))
        .await;
    cluster
        .everywhere("and knows what it missed", has_topic("after"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_all_keeps_everything() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    cluster
        .everywhere("0 is unfenced", is_unfenced(BrokerId(0)))
        .await;
    cluster.any().create_topic("kept").await;
    for id in (0..3).map(BrokerId) {
        cluster.kill(id).await;
    }
    for id in (0..3).map(BrokerId) {
        cluster.start_node(id).await;
    }
    cluster
        .everywhere("the topic is still there", has_topic("kept"))
        .await;
    cluster.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_bound_the_log_and_bring_back_the_state() {
    const TOPICS: u64 = 80;
    let mut cluster = Cluster::start_with(3, 0, FREQUENT_SNAPSHOTS).await;
    cluster.join_all();
    let leader = cluster.leader().await;
    cluster
        .everywhere("it is unfenced", is_unfenced(leader))
        .await;
    let straggler = BrokerId((leader.0 + 1) % 3);
    cluster.kill(straggler).await;
    for topic in 0..TOPICS {
        cluster.nodes[&leader]
            .create_topic_on(&format!("topic-{topic}"), leader)
            .await;
    }
    let last = format!("topic-{}", TOPICS - 1);
    cluster.start_node(straggler).await;
    cluster
        .everywhere("a voter far behind catches up", has_topic(&last))
        .await;
    assert_eq!(
        cluster.nodes[&straggler].controller.image().topics.len(),
        TOPICS as usize
    );
    assert_eq!(checkpoints(&cluster.directory(leader)).len(), 1);

    for id in (0..3).map(BrokerId) {
        cluster.kill(id).await;
    }
    for id in (0..3).map(BrokerId) {
        cluster.start_node(id).await;
    }
    cluster
        .everywhere("all is there after a restart", |image| {
            image.topics.len() == TOPICS as usize
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_snapshot_is_noticed() {
    let mut cluster = Cluster::start_with(1, 0, FREQUENT_SNAPSHOTS).await;
    cluster.join_all();
    cluster
        .everywhere("0 is unfenced", is_unfenced(BrokerId(0)))
        .await;
    for topic in 0..40 {
        cluster.any().create_topic(&format!("topic-{topic}")).await;
    }
    let directory = cluster.directory(BrokerId(0));
    cluster.kill(BrokerId(0)).await;
    for name in checkpoints(&directory) {
        std::fs::remove_file(directory.join(name)).unwrap();
    }
    let error = cluster.try_start(BrokerId(0)).await.unwrap_err();
    assert!(error.contains("snapshot that is missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_voter_forms_a_cluster_at_once() {
    let cluster = Cluster::start(1, 0).await;
    cluster.join_all();
    cluster
        .everywhere("it is unfenced", is_unfenced(BrokerId(0)))
        .await;
    cluster.any().create_topic("alone").await;
    assert!(!cluster.any().controller.is_fenced());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_quorum_keeps_its_leader() {
    let cluster = Cluster::start(3, 0).await;
    let leader = cluster.leader().await;
    let epoch = cluster.any().controller.controller_epoch();
    // Three times what it takes to give up a leader.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        for node in cluster.nodes.values() {
            assert_eq!(node.controller.active_controller(), Some(leader));
            assert_eq!(node.controller.controller_epoch(), epoch);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_stops_hands_over() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    for id in (0..3).map(BrokerId) {
        cluster
            .everywhere("all are unfenced", is_unfenced(id))
            .await;
    }
    let leader = cluster.leader().await;
    let leaving = Arc::clone(&cluster.nodes[&leader].controller);
    let asked = Instant::now();
    assert!(leaving.request_shutdown(Duration::from_secs(10)).await);
    drop(leaving);
    cluster.kill(leader).await;
    cluster.leader().await;
    println!("handed over after {:?}", asked.elapsed());
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    cluster
        .everywhere("it is fenced", move |image| image.brokers[&leader].fenced)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_neither_commits_nor_claims_to_lead() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    cluster
        .everywhere("0 is unfenced", is_unfenced(BrokerId(0)))
        .await;
    let leader = cluster.leader().await;
    for id in (0..3).map(BrokerId).filter(|id| *id != leader) {
        cluster.kill(id).await;
    }
    let alone = Arc::clone(&cluster.nodes[&leader].controller);
    eventually("it knows that it leads no more", async || {
        alone.active_controller().is_none()
    })
    .await;
    let limit = Duration::from_millis(500);
    let answer = alone
        .submit_within(create_topic("never", &[leader]), limit)
        .await;
    assert!(answer.is_err(), "{answer:?}");

    let back = BrokerId((leader.0 + 1) % 3);
    cluster.start_node(back).await;
    cluster.any().create_topic_on("again", leader).await;
    cluster
        .everywhere("a majority goes on", has_topic("again"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_the_token_are_refused() {
    let cluster = Cluster::start(1, 0).await;
    let wrong = Token::new("another-token-than-theirs").unwrap().into();
    let connection = rpc::connect(&cluster.address(BrokerId(0)), &wrong).unwrap();
    let request = SubmitRequest::default();
    let status = ControllerClient::new(connection.clone())
        .submit(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let status = RaftClient::new(connection)
        .vote(RaftMessage::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_does_no_harm() {
    let cluster = Cluster::start(1, 0).await;
    cluster.leader().await;
    let connection = rpc::connect(
        &cluster.address(BrokerId(0)),
        &super::cluster::credentials(),
    )
    .unwrap();
    for length in 0..64_usize {
        let payload: Vec<u8> = (0..length).map(|byte| (byte * 37 + 255) as u8).collect();
        let message = || RaftMessage {
            payload: payload.clone().into(),
            ..RaftMessage::default()
        };
        let mut client = RaftClient::new(connection.clone());
        let stream = tokio_stream::iter([message(), message()]);
        for status in [
            client.append(message()).await.map(|_| ()).unwrap_err(),
            client
                .transfer_leader(message())
                .await
                .map(|_| ())
                .unwrap_err(),
            client
                .install_snapshot(stream)
                .await
                .map(|_| ())
                .unwrap_err(),
        ] {
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{length} bytes: {status}"
            );
        }
        let request = SubmitRequest {
            command: payload.into(),
        };
        let mut client = ControllerClient::new(connection.clone());
        let status = client.submit(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    cluster
        .any()
        .submit_ok(create_topic("fine", &[BrokerId(0)]))
        .await;
}
