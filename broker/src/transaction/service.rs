//! What other brokers ask: markers for partitions that this one leads, and whether a transaction that it
//! coordinates includes a partition.

use std::sync::Arc;

use broker_core::transaction::PARTITIONS_MAX;
use klamm_proto::v1::transactions_server::Transactions;
use klamm_proto::v1::{
    JoinTransactionRequest, JoinTransactionResponse, WriteMarkersRequest, WriteMarkersResponse,
};
use tokio::runtime::Handle;
use tonic::{Request, Response, Status};

use super::peers::Peers;
use super::{TransactionCoordinator, local_markers, verification};

/// Serves [`Transactions`].
pub struct TransactionsService {
    peers: Arc<Peers>,
    coordinator: Arc<TransactionCoordinator>,
    /// Where logs are written: not on the threads of elections and heartbeats, which serve gRPC.
    data: Handle,
}

impl TransactionsService {
    #[must_use]
    pub const fn new(
        peers: Arc<Peers>,
        coordinator: Arc<TransactionCoordinator>,
        data: Handle,
    ) -> Self {
        Self {
            peers,
            coordinator,
            data,
        }
    }
}

#[tonic::async_trait]
impl Transactions for TransactionsService {
    async fn write_markers(
        &self,
        request: Request<WriteMarkersRequest>,
    ) -> Result<Response<WriteMarkersResponse>, Status> {
        let request = request.into_inner();
        check_size(request.partitions.len())?;
        let write = local_markers::write_all(Arc::clone(&self.peers), request);
        let written = self.data.spawn(write).await;
        let written = written.map_err(|_| Status::internal("the markers were not written"))?;
        Ok(Response::new(written))
    }

    async fn join_transaction(
        &self,
        request: Request<JoinTransactionRequest>,
    ) -> Result<Response<JoinTransactionResponse>, Status> {
        let request = request.into_inner();
        check_size(request.partitions.len())?;
        let joining = verification::joining(request)
            .ok_or_else(|| Status::invalid_argument("the producer epoch is none"))?;
        let coordinator = Arc::clone(&self.coordinator);
        let decide = async move { coordinator.let_join(joining).await };
        let joined = self.data.spawn(decide).await;
        let joined = joined.map_err(|_| Status::internal("the request was not decided"))?;
        Ok(Response::new(JoinTransactionResponse {
            error_code: joined.err().map_or(0, |error| i32::from(error as i16)),
        }))
    }
}

fn check_size(partitions: usize) -> Result<(), Status> {
    if partitions > PARTITIONS_MAX {
        return Err(Status::invalid_argument("too many partitions"));
    }
    Ok(())
}
