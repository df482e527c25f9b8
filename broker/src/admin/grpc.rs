//! Serves `klamm.v1.Admin`, what the operator asks of the brokers. One file for each subject; this
//! one is the list.

use std::sync::Arc;

use broker_core::controller::{Command, Response as CommandResponse};
use klamm_proto::v1::admin_server::Admin;
use klamm_proto::v1::{
    AlterTopicRequest, ClusterDescription, CreateTopicRequest, DeleteTopicRequest,
    DeleteTopicResponse, DescribeClusterRequest, DescribeTopicsRequest, DescribeTopicsResponse,
    TopicDescription,
};
use tonic::{Request, Response, Status};

use super::status::refused;
use super::{cluster, topics};
use crate::controller::{Controller, SubmitError};

/// The gRPC service `klamm.v1.Admin`.
pub struct AdminService {
    pub(super) controller: Arc<Controller>,
}

impl AdminService {
    #[must_use]
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    /// Has the active controller decide and commit `command`.
    pub(super) async fn submit(&self, command: Command) -> Result<CommandResponse, Status> {
        match self.controller.submit(command).await {
            Ok(CommandResponse::Failed(failure)) => Err(refused(&failure)),
            Ok(response) => Ok(response),
            Err(error @ SubmitError::Malformed(_)) => {
                Err(Status::invalid_argument(error.to_string()))
            }
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    async fn describe_cluster(
        &self,
        _: Request<DescribeClusterRequest>,
    ) -> Result<Response<ClusterDescription>, Status> {
        Ok(Response::new(cluster::describe(&self.controller)))
    }

    async fn describe_topics(
        &self,
        request: Request<DescribeTopicsRequest>,
    ) -> Result<Response<DescribeTopicsResponse>, Status> {
        let described = topics::describe(self, request.get_ref());
        Ok(Response::new(described))
    }

    async fn create_topic(
        &self,
        request: Request<CreateTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let created = topics::create(self, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn alter_topic(
        &self,
        request: Request<AlterTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let altered = topics::alter(self, request.get_ref()).await?;
        Ok(Response::new(altered))
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let deleted = topics::delete(self, request.into_inner()).await?;
        Ok(Response::new(deleted))
    }
}
