//! The gRPC services of a broker, for other brokers and the operator.

use std::sync::Arc;

use klamm_proto::v1::admin_server::AdminServer;
use klamm_proto::v1::replica_server::ReplicaServer;
use klamm_proto::v1::transactions_server::TransactionsServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;

use crate::admin::grpc::AdminService;
use crate::controller::Controller;
use crate::replica::{PULL_MESSAGE_BYTES_MAX, ReplicaService};
use crate::rpc::{self, Credentials};
use crate::transaction::TransactionsService;

/// What is served besides the controller's own part.
pub(super) struct BrokerServices {
    pub(super) controller: Arc<Controller>,
    pub(super) replica: ReplicaService,
    pub(super) transactions: TransactionsService,
}

/// Serves until the broker stops.
pub(super) async fn serve_rpc(
    listener: TcpListener,
    services: BrokerServices,
    credentials: Credentials,
    stopped: CancellationToken,
) {
    let BrokerServices {
        controller,
        replica,
        transactions,
    } = services;
    let transactions = TransactionsServer::new(transactions)
        .max_decoding_message_size(rpc::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(rpc::MESSAGE_BYTES_MAX);
    let replica = ReplicaServer::new(replica).max_encoding_message_size(PULL_MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(AdminService::new(Arc::clone(&controller)));
    let incoming = rpc::incoming(listener, &credentials);
    let served = rpc::server()
        .add_service(controller.raft_server())
        .add_service(controller.controller_server())
        .add_service(InterceptedService::new(replica, credentials.guard()))
        .add_service(InterceptedService::new(transactions, credentials.guard()))
        .add_service(InterceptedService::new(admin, credentials.guard()))
        .serve_with_incoming_shutdown(incoming, stopped.cancelled())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the gRPC server failed");
    }
}
