//! Serves `klamm.v1.Admin`, what the operator asks of the brokers. One file for each subject; this
//! one is the list.

use std::sync::Arc;

use broker_core::BrokerId;
use broker_core::controller::{Command, Response as CommandResponse};
use broker_core::metadata::Evacuation;
use klamm_proto::v1::admin_server::Admin;
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::{
    AddLearnerRequest, AlterTopicRequest, ApplyConfigRequest, ApplyConfigResponse,
    CancelDrainRequest, CancelDrainResponse, CheckRestartRequest, CheckRestartResponse,
    ClusterDescription, CordonRequest, CordonResponse, CreateTopicRequest, DeleteTopicRequest,
    DeleteTopicResponse, DescribeClusterRequest, DescribeQuorumRequest, DescribeTopicsRequest,
    DescribeTopicsResponse, DrainStatusRequest, DrainStatusResponse, FeatureLevels,
    FinalizeFeatureLevelRequest, FinalizeFeatureLevelResponse, PrepareRestartRequest,
    PrepareRestartResponse, PromoteVoterRequest, QuorumDescription, RemoveVoterRequest,
    RestartRecoveryRequest, RestartRecoveryResponse, RestorePreferredLeadersRequest,
    RestorePreferredLeadersResponse, StartDrainRequest, StartDrainResponse,
    SupportedFeatureLevelsRequest, TopicDescription, TransferLeadershipRequest, UncordonRequest,
    UncordonResponse, UnregisterBrokerRequest, UnregisterBrokerResponse, ValidateConfigRequest,
    ValidateConfigResponse,
};
use tonic::{Request, Response, Status};

use super::brokers::{self, NewReplicas};
use super::route::{Route, forwarded, route};
use super::status::refused;
use super::{cluster, config, drain, quorum, restart, topics};
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
        request: Request<DescribeClusterRequest>,
    ) -> Result<Response<ClusterDescription>, Status> {
        if !request.get_ref().from_controller {
            return Ok(Response::new(cluster::describe(&self.controller)));
        }
        match route(&self.controller, &request).await? {
            Route::Here(view) => Ok(Response::new(cluster::describe_view(
                &view,
                self.controller.id().0,
            ))),
            Route::There(mut client) => {
                let request = forwarded(request.into_inner());
                client.describe_cluster(request).await
            }
        }
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

    async fn check_restart(
        &self,
        request: Request<CheckRestartRequest>,
    ) -> Result<Response<CheckRestartResponse>, Status> {
        match route(&self.controller, &request).await? {
            Route::Here(view) => restart::check(&view, request.get_ref()).map(Response::new),
            Route::There(mut client) => client.check_restart(forwarded(request.into_inner())).await,
        }
    }

    async fn prepare_restart(
        &self,
        request: Request<PrepareRestartRequest>,
    ) -> Result<Response<PrepareRestartResponse>, Status> {
        let prepared = restart::prepare(self, request.into_inner()).await?;
        Ok(Response::new(prepared))
    }

    async fn restore_preferred_leaders(
        &self,
        _: Request<RestorePreferredLeadersRequest>,
    ) -> Result<Response<RestorePreferredLeadersResponse>, Status> {
        restart::restore_leaders(self).await.map(Response::new)
    }

    async fn restart_recovery(
        &self,
        request: Request<RestartRecoveryRequest>,
    ) -> Result<Response<RestartRecoveryResponse>, Status> {
        match route(&self.controller, &request).await? {
            Route::Here(view) => restart::recovery(&view, request.into_inner()).map(Response::new),
            Route::There(mut client) => {
                client
                    .restart_recovery(forwarded(request.into_inner()))
                    .await
            }
        }
    }

    async fn cordon(
        &self,
        request: Request<CordonRequest>,
    ) -> Result<Response<CordonResponse>, Status> {
        brokers::cordon(self, request.get_ref().broker, NewReplicas::Refused).await?;
        Ok(Response::new(CordonResponse {}))
    }

    async fn uncordon(
        &self,
        request: Request<UncordonRequest>,
    ) -> Result<Response<UncordonResponse>, Status> {
        brokers::cordon(self, request.get_ref().broker, NewReplicas::Allowed).await?;
        Ok(Response::new(UncordonResponse {}))
    }

    async fn describe_quorum(
        &self,
        _: Request<DescribeQuorumRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        quorum::describe(self).await.map(Response::new)
    }

    async fn add_learner(
        &self,
        request: Request<AddLearnerRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let change = Change::AddLearner(request.into_inner());
        quorum::change(self, change).await.map(Response::new)
    }

    async fn promote_voter(
        &self,
        request: Request<PromoteVoterRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let change = Change::PromoteVoter(request.into_inner());
        quorum::change(self, change).await.map(Response::new)
    }

    async fn remove_voter(
        &self,
        request: Request<RemoveVoterRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let change = Change::RemoveVoter(request.into_inner());
        quorum::change(self, change).await.map(Response::new)
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let change = Change::TransferLeadership(request.into_inner());
        quorum::change(self, change).await.map(Response::new)
    }

    async fn supported_feature_levels(
        &self,
        _: Request<SupportedFeatureLevelsRequest>,
    ) -> Result<Response<FeatureLevels>, Status> {
        let levels = quorum::feature_levels(&self.controller.image());
        Ok(Response::new(levels))
    }

    async fn finalize_feature_level(
        &self,
        request: Request<FinalizeFeatureLevelRequest>,
    ) -> Result<Response<FinalizeFeatureLevelResponse>, Status> {
        quorum::finalize(self, request.into_inner()).await?;
        Ok(Response::new(FinalizeFeatureLevelResponse {}))
    }

    async fn unregister_broker(
        &self,
        request: Request<UnregisterBrokerRequest>,
    ) -> Result<Response<UnregisterBrokerResponse>, Status> {
        brokers::unregister(self, request.into_inner()).await?;
        Ok(Response::new(UnregisterBrokerResponse {}))
    }

    async fn start_drain(
        &self,
        request: Request<StartDrainRequest>,
    ) -> Result<Response<StartDrainResponse>, Status> {
        let evacuation = Evacuation {
            broker_id: request.get_ref().broker,
            evacuating: true,
        };
        drain::alter(self, evacuation).await?;
        Ok(Response::new(StartDrainResponse {}))
    }

    async fn cancel_drain(
        &self,
        request: Request<CancelDrainRequest>,
    ) -> Result<Response<CancelDrainResponse>, Status> {
        let evacuation = Evacuation {
            broker_id: request.get_ref().broker,
            evacuating: false,
        };
        drain::alter(self, evacuation).await?;
        Ok(Response::new(CancelDrainResponse {}))
    }

    async fn drain_status(
        &self,
        request: Request<DrainStatusRequest>,
    ) -> Result<Response<DrainStatusResponse>, Status> {
        match route(&self.controller, &request).await? {
            Route::Here(view) => {
                let request = request.into_inner();
                let known = self.controller.evacuation(BrokerId(request.broker));
                drain::status(&view, known, request).map(Response::new)
            }
            Route::There(mut client) => client.drain_status(forwarded(request.into_inner())).await,
        }
    }

    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Result<Response<ValidateConfigResponse>, Status> {
        Ok(Response::new(config::validate(request.into_inner())))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Result<Response<ApplyConfigResponse>, Status> {
        let applied = config::apply(self, request.into_inner()).await?;
        Ok(Response::new(applied))
    }
}
