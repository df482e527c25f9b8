use std::collections::HashMap;
use std::sync::Arc;

use broker_core::BrokerId;
use klamm_proto::v1::admin_server::Admin as _;
use klamm_proto::v1::{
    AlterTopicRequest, BrokerState, CreateTopicRequest, DeleteTopicRequest, DescribeClusterRequest,
    DescribeTopicsRequest, ReplicaAssignment, TopicDescription,
};
use tonic::{Code, Request, Status};

use super::cluster::{CLUSTER_ID, Cluster, is_unfenced};
use crate::admin::grpc::AdminService;

fn on(replicas: &[i32]) -> ReplicaAssignment {
    ReplicaAssignment {
        replicas: replicas.to_vec(),
    }
}

fn alter(topic: &TopicDescription) -> AlterTopicRequest {
    AlterTopicRequest {
        name: topic.name.clone(),
        topic_id: topic.topic_id.clone(),
        expected_partitions: u32::try_from(topic.partitions.len()).unwrap(),
        ..AlterTopicRequest::default()
    }
}

async fn create(admin: &AdminService, name: &str) -> Result<TopicDescription, Status> {
    let request = CreateTopicRequest {
        name: name.to_owned(),
        assignments: vec![on(&[0, 1]), on(&[1, 0])],
        config: HashMap::from([("retention.ms".to_owned(), "1000".to_owned())]),
    };
    Ok(admin
        .create_topic(Request::new(request))
        .await?
        .into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_manages_topics_through_any_broker() {
    let cluster = Cluster::start(1, 1).await;
    cluster.join_all();
    for id in (0..2).map(BrokerId) {
        cluster
            .everywhere("all are unfenced", is_unfenced(id))
            .await;
    }
    let admin = AdminService::new(Arc::clone(&cluster.nodes[&BrokerId(1)].controller));

    let created = create(&admin, "orders").await.unwrap();
    let leaders: Vec<_> = created
        .partitions
        .iter()
        .map(|partition| partition.leader)
        .collect();
    assert_eq!(leaders, [0, 1]);
    assert_eq!(created.config["retention.ms"], "1000");
    assert_eq!(
        create(&admin, "orders").await.unwrap_err().code(),
        Code::AlreadyExists
    );

    let grown = AlterTopicRequest {
        added_partitions: vec![on(&[1, 0])],
        set_config: HashMap::from([("segment.bytes".to_owned(), "4096".to_owned())]),
        reset_config: vec!["retention.ms".to_owned()],
        ..alter(&created)
    };
    let altered = admin
        .alter_topic(Request::new(grown.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(altered.partitions[2].replicas, [1, 0]);
    assert_eq!(
        altered.config,
        HashMap::from([("segment.bytes".to_owned(), "4096".to_owned())])
    );

    let mut outdated = Vec::new();
    outdated.push((grown, Code::FailedPrecondition));
    let other_id = "00000000-0000-4000-8000-000000000001".to_owned();
    outdated.push((
        AlterTopicRequest {
            topic_id: other_id,
            ..alter(&altered)
        },
        Code::FailedPrecondition,
    ));
    let no_id = "orders".to_owned();
    outdated.push((
        AlterTopicRequest {
            topic_id: no_id,
            ..alter(&altered)
        },
        Code::InvalidArgument,
    ));
    let unknown = "unknown".to_owned();
    outdated.push((
        AlterTopicRequest {
            name: unknown,
            ..alter(&altered)
        },
        Code::NotFound,
    ));
    for (request, code) in outdated {
        let status = admin
            .alter_topic(Request::new(request.clone()))
            .await
            .unwrap_err();
        assert_eq!(status.code(), code, "{request:?}");
    }

    let cluster_now = admin
        .describe_cluster(Request::new(DescribeClusterRequest::default()))
        .await;
    let cluster_now = cluster_now.unwrap().into_inner();
    assert_eq!(cluster_now.cluster_id, CLUSTER_ID);
    assert_eq!(cluster_now.voters, [0]);
    assert_eq!((cluster_now.topics, cluster_now.partitions), (1, 3));
    assert!(
        cluster_now
            .brokers
            .iter()
            .all(|broker| broker.state() == BrokerState::Serving)
    );
    assert_eq!(cluster_now.brokers[1].replicas, 3);

    let delete = DeleteTopicRequest {
        name: "orders".to_owned(),
        topic_id: altered.topic_id,
    };
    admin
        .delete_topic(Request::new(delete.clone()))
        .await
        .unwrap();
    let again = admin.delete_topic(Request::new(delete)).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    cluster
        .everywhere("the topic is gone", |image| image.topics.is_empty())
        .await;
    let topics = admin
        .describe_topics(Request::new(DescribeTopicsRequest::default()))
        .await;
    assert_eq!(topics.unwrap().into_inner().topics, []);
}
