use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::raft_client::RaftClient;
use klamm_proto::v1::{
    AddLearnerRequest, IdentifyRequest, PromoteVoterRequest, QuorumDescription, QuorumMember,
    QuorumRefusedReason, RemoveVoterRequest, TransferLeadershipRequest,
};
use tonic::Code;

use super::cluster::{
    CLUSTER_ID, Cluster, FREQUENT_SNAPSHOTS, create_topic, credentials, eventually, has_topic,
    is_unfenced,
};
use crate::controller::ChangeVotersError;
use crate::rpc;

fn add(id: BrokerId) -> Change {
    Change::AddLearner(AddLearnerRequest {
        broker_id: id.0,
        directory_id: String::new(),
    })
}

fn promote(id: BrokerId) -> Change {
    Change::PromoteVoter(PromoteVoterRequest {
        broker_id: id.0,
        directory_id: String::new(),
    })
}

fn remove(id: BrokerId) -> Change {
    Change::RemoveVoter(RemoveVoterRequest {
        broker_id: id.0,
        directory_id: String::new(),
    })
}

fn ids(members: &[QuorumMember]) -> Vec<i32> {
    members.iter().map(|member| member.broker_id).collect()
}

impl Cluster {
    async fn change(&self, change: Change) -> Result<(), ChangeVotersError> {
        self.any().controller.change_voters(change).await
    }

    async fn quorum(&self) -> QuorumDescription {
        self.any().controller.describe_quorum().await.unwrap()
    }

    async fn refusal(&self, change: Change) -> QuorumRefusedReason {
        match self.change(change).await {
            Err(ChangeVotersError::Refused(refused)) => refused.reason(),
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Makes a running broker a voter.
    async fn make_voter(&self, id: BrokerId) {
        self.change(add(id)).await.unwrap();
        eventually("the learner is promoted", async || {
            match self.change(promote(id)).await {
                Ok(()) => true,
                Err(ChangeVotersError::Refused(refused)) => {
                    assert_eq!(refused.reason(), QuorumRefusedReason::NotCaughtUp);
                    false
                }
                Err(error) => panic!("{error}"),
            }
        })
        .await;
    }

    async fn all_unfenced(&self) {
        for id in self.nodes.keys() {
            self.everywhere("all are unfenced", is_unfenced(*id)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_moves_to_other_brokers_one_voter_at_a_time() {
    let mut cluster = Cluster::start(1, 4).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    cluster.any().create_topic("before").await;
    for id in (1..4).map(BrokerId) {
        cluster.make_voter(id).await;
    }
    let quorum = cluster.quorum().await;
    assert_eq!(ids(&quorum.voters), [0, 1, 2, 3]);
    assert_eq!(ids(&quorum.observers), [4]);

    // The leader hands over by itself before it is removed.
    cluster.change(remove(BrokerId(0))).await.unwrap();
    let quorum = cluster.quorum().await;
    assert_eq!(ids(&quorum.voters), [1, 2, 3]);
    assert_ne!(quorum.leader_id, 0);
    cluster.kill(BrokerId(0)).await;
    let observer = &cluster.nodes[&BrokerId(4)];
    eventually("the observer knows the voters", async || {
        observer.controller.voters() == [1, 2, 3].map(BrokerId)
    })
    .await;

    // Every initial voter is gone: what was learnt has to do.
    cluster.kill(BrokerId(4)).await;
    cluster
        .everywhere("the observer is fenced", |image| {
            !is_unfenced(BrokerId(4))(image)
        })
        .await;
    cluster.start_node(BrokerId(4)).await;
    cluster.nodes[&BrokerId(4)].join("second");
    cluster
        .everywhere("the observer is back", is_unfenced(BrokerId(4)))
        .await;
    cluster.nodes[&BrokerId(4)]
        .create_topic_on("after", BrokerId(4))
        .await;
    cluster
        .everywhere("all go on", |image| {
            has_topic("before")(image) && has_topic("after")(image)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_voter_takes_the_place_of_a_dead_leader() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    let leader = cluster.leader().await;
    cluster.change(add(BrokerId(3))).await.unwrap();
    cluster.kill(leader).await;
    eventually("the next leader removes the dead one", async || {
        cluster.change(remove(leader)).await.is_ok()
    })
    .await;
    cluster.make_voter(BrokerId(3)).await;
    let voters = ids(&cluster.quorum().await.voters);
    let expected: Vec<_> = (0..4).filter(|id| *id != leader.0).collect();
    assert_eq!(voters, expected);

    cluster.start_node(leader).await;
    cluster.nodes[&leader].join("second");
    cluster
        .everywhere("it comes back as an observer", is_unfenced(leader))
        .await;
    assert_eq!(ids(&cluster.quorum().await.observers), [leader.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_far_behind_gets_a_snapshot() {
    const TOPICS: u64 = 80;
    let mut cluster = Cluster::start_with(1, 1, FREQUENT_SNAPSHOTS).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    for topic in 0..TOPICS {
        cluster.any().create_topic(&format!("topic-{topic}")).await;
    }
    let learner = BrokerId(1);
    cluster.make_voter(learner).await;
    let snapshots = super::cluster::checkpoints(&cluster.directory(learner));
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    let first = std::fs::read_dir(cluster.directory(learner)).unwrap();
    let logs = first.map(|file| file.unwrap().file_name().into_string().unwrap());
    let logs: Vec<_> = logs.filter(|name| name.ends_with(".log")).collect();
    assert!(!logs.contains(&format!("{:020}.log", 0)), "{logs:?}");

    cluster.kill(learner).await;
    cluster.start_node(learner).await;
    cluster
        .everywhere("it is all there", |image| {
            image.topics.len() == TOPICS as usize
        })
        .await;
    cluster.nodes[&learner].create_topic("both-vote").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_never_votes_until_it_is_added_anew() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    let leader = cluster.leader().await;
    let (lost, other) = (BrokerId((leader.0 + 1) % 3), BrokerId((leader.0 + 2) % 3));
    cluster.nodes[&leader]
        .create_topic_on("before", leader)
        .await;
    let quorum_before = cluster.quorum().await;
    let image = cluster.nodes[&leader].controller.image();
    let old_directory = image.brokers[&lost].metadata_directory;
    cluster.kill(lost).await;
    std::fs::remove_dir_all(cluster.directory(lost)).unwrap();
    cluster.start_node(lost).await;
    cluster.nodes[&lost].join("second");
    cluster
        .everywhere("it follows the others", |image| {
            has_topic("before")(image) && image.brokers[&lost].metadata_directory != old_directory
        })
        .await;
    assert_eq!(
        cluster.refusal(promote(lost)).await,
        QuorumRefusedReason::UnknownVoter,
        "it is not who the voter was"
    );

    // One voter and one that lost its disk are no majority of three.
    cluster.kill(other).await;
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

    cluster.start_node(other).await;
    cluster.nodes[&other].join("second");
    cluster.all_unfenced().await;
    assert_eq!(
        cluster.refusal(add(lost)).await,
        QuorumRefusedReason::DuplicateVoter
    );
    cluster.change(remove(lost)).await.unwrap();
    cluster.make_voter(lost).await;
    let quorum = cluster.quorum().await;
    assert_eq!(ids(&quorum.voters), [0, 1, 2]);
    let directory = |quorum: &QuorumDescription| {
        let voters = quorum.voters.iter();
        let mut found = voters.filter(|voter| voter.broker_id == lost.0);
        found.next().unwrap().directory_id.clone()
    };
    assert_ne!(directory(&quorum), directory(&quorum_before));
    cluster.kill(other).await;
    cluster.any().create_topic_on("after", leader).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn voters_that_lost_their_disks_do_not_form_another_quorum() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    for lost in [BrokerId(0), BrokerId(1)] {
        cluster.kill(lost).await;
        std::fs::remove_dir_all(cluster.directory(lost)).unwrap();
        cluster.start_node(lost).await;
    }
    for id in (0..3).map(BrokerId) {
        let controller = &cluster.nodes[&id].controller;
        let limit = Duration::from_secs(3);
        let command = create_topic("never", &[BrokerId(0)]);
        let answer = controller.submit_within(command, limit).await;
        assert!(answer.is_err(), "{answer:?}");
        assert!(controller.image().topics.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsafe_changes_are_refused_with_a_reason() {
    let mut cluster = Cluster::start(3, 1).await;
    cluster.join_all();
    cluster.all_unfenced().await;
    let leader = cluster.leader().await;
    let cases = [
        (add(BrokerId(9)), QuorumRefusedReason::UnknownBroker),
        (promote(BrokerId(3)), QuorumRefusedReason::UnknownVoter),
        (remove(BrokerId(3)), QuorumRefusedReason::UnknownVoter),
        (
            Change::AddLearner(AddLearnerRequest {
                broker_id: 3,
                directory_id: "00000000-0000-4000-8000-000000000001".to_owned(),
            }),
            QuorumRefusedReason::DirectoryMismatch,
        ),
        (
            Change::RemoveVoter(RemoveVoterRequest {
                broker_id: 0,
                directory_id: "no uuid".to_owned(),
            }),
            QuorumRefusedReason::Malformed,
        ),
        (
            Change::TransferLeadership(TransferLeadershipRequest { broker_id: Some(3) }),
            QuorumRefusedReason::UnknownVoter,
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(
            cluster.refusal(change.clone()).await,
            expected,
            "{change:?}"
        );
    }
    // With one of three down, another one may not go.
    let (down, up) = (BrokerId((leader.0 + 1) % 3), BrokerId((leader.0 + 2) % 3));
    cluster.kill(down).await;
    eventually("the leader notices", async || {
        let quorum = cluster.quorum().await;
        let mut voters = quorum.voters.iter();
        voters.any(|voter| voter.broker_id == down.0 && !voter.reachable)
    })
    .await;
    assert_eq!(
        cluster.refusal(remove(up)).await,
        QuorumRefusedReason::NoMajority
    );
    let transfer = Change::TransferLeadership(TransferLeadershipRequest {
        broker_id: Some(up.0),
    });
    cluster.change(transfer).await.unwrap();
    assert_eq!(cluster.leader().await, up);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_disk_is_refused() {
    let mut cluster = Cluster::start(3, 0).await;
    cluster.leader().await;
    for id in [BrokerId(0), BrokerId(1)] {
        cluster.kill(id).await;
    }
    let (one, other) = (
        cluster.directory(BrokerId(0)),
        cluster.directory(BrokerId(1)),
    );
    let aside = one.with_extension("aside");
    std::fs::rename(&one, &aside).unwrap();
    std::fs::rename(&other, &one).unwrap();
    std::fs::rename(&aside, &other).unwrap();
    let error = cluster.try_start(BrokerId(0)).await.unwrap_err();
    assert!(error.contains("node.id 1, expected 0"), "{error}");

    let connection = rpc::connect(&cluster.address(BrokerId(2)), &credentials()).unwrap();
    let mut client = RaftClient::new(connection);
    let mut identify = async |cluster_id: &str| {
        let request = IdentifyRequest {
            cluster_id: cluster_id.to_owned(),
        };
        client.identify(request).await
    };
    let refused = identify("another").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("correct"), "{refused}");
    let answer = identify(CLUSTER_ID).await.unwrap().into_inner();
    assert!(answer.formed);
    assert_eq!(answer.broker_id, 2);
}
