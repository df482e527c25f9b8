//! Serves `klamm.v1.Admin`, what the operator asks of the brokers. One file for each subject; this
//! one is the list.

use std::sync::Arc;

use broker_core::BrokerId;
use broker_core::metadata::{Evacuation, Rebalance};
use klamm_proto::v1::admin_server::Admin;
use klamm_proto::v1::change_voters_request::Change;
use klamm_proto::v1::{
    AddLearnerRequest, AlterTopicRequest, ApplyConfigRequest, ApplyConfigResponse,
    CancelDrainRequest, CancelDrainResponse, CancelRebalanceRequest, CancelRebalanceResponse,
    CheckRestartRequest, CheckRestartResponse, ClusterDescription, CordonRequest, CordonResponse,
    CreateTopicRequest, DeleteTopicRequest, DeleteTopicResponse, DescribeClusterRequest,
    DescribeQuorumRequest, DescribeTopicsRequest, DescribeTopicsResponse, DrainStatusRequest,
    DrainStatusResponse, FeatureLevels, FinalizeFeatureLevelRequest, FinalizeFeatureLevelResponse,
    PrepareRestartRequest, PrepareRestartResponse, PromoteVoterRequest, QuorumDescription,
    RebalanceStatusRequest, RebalanceStatusResponse, RemoveVoterRequest, RestartRecoveryRequest,
    RestartRecoveryResponse, RestorePreferredLeadersRequest, RestorePreferredLeadersResponse,
    StartDrainRequest, StartDrainResponse, StartRebalanceRequest, StartRebalanceResponse,
    SupportedFeatureLevelsRequest, TopicDescription, TransferLeadershipRequest, UncordonRequest,
    UncordonResponse, UnregisterBrokerRequest, UnregisterBrokerResponse, ValidateConfigRequest,
    ValidateConfigResponse,
};
use tonic::{Request, Response, Status};

use super::brokers::{self, NewReplicas};
use super::caller::Caller;
use super::route::{Route, forwarded, route};
use super::{cluster, config, drain, quorum, rebalance, restart, topics};
use crate::controller::Controller;

/// The gRPC service `klamm.v1.Admin`.
pub struct AdminService {
    pub(super) controller: Arc<Controller>,
}

impl AdminService {
    #[must_use]
    pub fn new(controller: Arc<Controller>) -> Self {
        Self { controller }
    }

    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        Caller::of(&self.controller, request)
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
        let described = topics::describe(&self.controller.image(), request.get_ref());
        Ok(Response::new(described))
    }

    async fn create_topic(
        &self,
        request: Request<CreateTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let caller = self.caller(&request)?;
        let created = topics::create(&caller, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn alter_topic(
        &self,
        request: Request<AlterTopicRequest>,
    ) -> Result<Response<TopicDescription>, Status> {
        let caller = self.caller(&request)?;
        let altered = topics::alter(&caller, request.get_ref()).await?;
        Ok(Response::new(altered))
    }

    async fn delete_topic(
        &self,
        request: Request<DeleteTopicRequest>,
    ) -> Result<Response<DeleteTopicResponse>, Status> {
        let caller = self.caller(&request)?;
        let deleted = topics::delete(&caller, request.into_inner()).await?;
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
        let caller = self.caller(&request)?;
        let prepared = restart::prepare(&caller, request.into_inner()).await?;
        Ok(Response::new(prepared))
    }

    async fn restore_preferred_leaders(
        &self,
        request: Request<RestorePreferredLeadersRequest>,
    ) -> Result<Response<RestorePreferredLeadersResponse>, Status> {
        let caller = self.caller(&request)?;
        restart::restore_leaders(&caller).await.map(Response::new)
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
        let caller = self.caller(&request)?;
        brokers::cordon(&caller, request.get_ref().broker, NewReplicas::Refused).await?;
        Ok(Response::new(CordonResponse {}))
    }

    async fn uncordon(
        &self,
        request: Request<UncordonRequest>,
    ) -> Result<Response<UncordonResponse>, Status> {
        let caller = self.caller(&request)?;
        brokers::cordon(&caller, request.get_ref().broker, NewReplicas::Allowed).await?;
        Ok(Response::new(UncordonResponse {}))
    }

    async fn describe_quorum(
        &self,
        _: Request<DescribeQuorumRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        quorum::describe(&self.controller).await.map(Response::new)
    }

    async fn add_learner(
        &self,
        request: Request<AddLearnerRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let caller = self.caller(&request)?;
        let change = Change::AddLearner(request.into_inner());
        quorum::change(&caller, change).await.map(Response::new)
    }

    async fn promote_voter(
        &self,
        request: Request<PromoteVoterRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let caller = self.caller(&request)?;
        let change = Change::PromoteVoter(request.into_inner());
        quorum::change(&caller, change).await.map(Response::new)
    }

    async fn remove_voter(
        &self,
        request: Request<RemoveVoterRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let caller = self.caller(&request)?;
        let change = Change::RemoveVoter(request.into_inner());
        quorum::change(&caller, change).await.map(Response::new)
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        let caller = self.caller(&request)?;
        let change = Change::TransferLeadership(request.into_inner());
        quorum::change(&caller, change).await.map(Response::new)
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
        let caller = self.caller(&request)?;
        quorum::finalize(&caller, request.into_inner()).await?;
        Ok(Response::new(FinalizeFeatureLevelResponse {}))
    }

    async fn unregister_broker(
        &self,
        request: Request<UnregisterBrokerRequest>,
    ) -> Result<Response<UnregisterBrokerResponse>, Status> {
        let caller = self.caller(&request)?;
        brokers::unregister(&caller, request.into_inner()).await?;
        Ok(Response::new(UnregisterBrokerResponse {}))
    }

    async fn start_drain(
        &self,
        request: Request<StartDrainRequest>,
    ) -> Result<Response<StartDrainResponse>, Status> {
        let caller = self.caller(&request)?;
        let evacuation = Evacuation {
            broker_id: request.get_ref().broker,
            evacuating: true,
        };
        drain::alter(&caller, evacuation).await?;
        Ok(Response::new(StartDrainResponse {}))
    }

    async fn cancel_drain(
        &self,
        request: Request<CancelDrainRequest>,
    ) -> Result<Response<CancelDrainResponse>, Status> {
        let caller = self.caller(&request)?;
        let evacuation = Evacuation {
            broker_id: request.get_ref().broker,
            evacuating: false,
        };
        drain::alter(&caller, evacuation).await?;
        Ok(Response::new(CancelDrainResponse {}))
    }

    async fn drain_status(
        &self,
        request: Request<DrainStatusRequest>,
    ) -> Result<Response<DrainStatusResponse>, Status> {
        match route(&self.controller, &request).await? {
            Route::Here(view) => {
                let request = request.into_inner();
                let broker = BrokerId(request.broker);
                let known = self.controller.evacuation(broker);
                let bytes_left = self.controller.hosted_bytes(broker);
                drain::status(&view, known, bytes_left, broker).map(Response::new)
            }
            Route::There(mut client) => client.drain_status(forwarded(request.into_inner())).await,
        }
    }

    async fn start_rebalance(
        &self,
        request: Request<StartRebalanceRequest>,
    ) -> Result<Response<StartRebalanceResponse>, Status> {
        let caller = self.caller(&request)?;
        rebalance::alter(&caller, Rebalance { rebalancing: true }).await?;
        Ok(Response::new(StartRebalanceResponse {}))
    }

    async fn cancel_rebalance(
        &self,
        request: Request<CancelRebalanceRequest>,
    ) -> Result<Response<CancelRebalanceResponse>, Status> {
        let caller = self.caller(&request)?;
        rebalance::alter(&caller, Rebalance { rebalancing: false }).await?;
        Ok(Response::new(CancelRebalanceResponse {}))
    }

    async fn rebalance_status(
        &self,
        request: Request<RebalanceStatusRequest>,
    ) -> Result<Response<RebalanceStatusResponse>, Status> {
        match route(&self.controller, &request).await? {
            Route::Here(view) => {
                let known = self.controller.rebalance();
                let explain = request.get_ref().explain;
                let status = rebalance::status(view, known, explain).await?;
                Ok(Response::new(status))
            }
            Route::There(mut client) => {
                client
                    .rebalance_status(forwarded(request.into_inner()))
                    .await
            }
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
        let caller = self.caller(&request)?;
        let applied = config::apply(&caller, request.into_inner()).await?;
        Ok(Response::new(applied))
    }
}
