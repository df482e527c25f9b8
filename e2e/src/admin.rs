//! The brokers' gRPC Admin service, called as the operator calls it, from code without futures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use klamm_proto::v1::admin_client::AdminClient;
use klamm_proto::v1::{BrokerDescription, ClusterDescription, DescribeClusterRequest};
use tokio::runtime::{Builder, Runtime};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::dev_cluster::DevCluster;

const CALL_LIMIT: Duration = Duration::from_secs(30);
const REPEAT_LIMIT: Duration = Duration::from_secs(60);
const REPEAT_INTERVAL: Duration = Duration::from_millis(100);

/// The Admin service of one broker.
#[derive(Debug)]
pub struct AdminService {
    runtime: Runtime,
    client: AdminClient<Channel>,
    authorization: MetadataValue<Ascii>,
}

impl AdminService {
    /// The service of broker `id`, with the cluster's token.
    ///
    /// # Errors
    /// When the token is missing.
    pub fn of(cluster: &DevCluster, id: u16) -> Result<Self> {
        Self::new(cluster.rpc_address(id), &cluster.rpc_token()?)
    }

    fn new(address: SocketAddr, token: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.timeout(CALL_LIMIT);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Ok(Self {
            runtime,
            client: AdminClient::new(channel),
            authorization: format!("Bearer {token}").parse()?,
        })
    }

    /// Makes one call: `admin.call(request, async |mut client, request| client.cordon(request).await)`.
    ///
    /// # Errors
    /// What the broker answers.
    pub fn call<M, R>(
        &self,
        message: M,
        call: impl AsyncFnOnce(AdminClient<Channel>, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("authorization", self.authorization.clone());
        let answer = self.runtime.block_on(call(self.client.clone(), request))?;
        Ok(answer.into_inner())
    }

    /// As [`AdminService::call`], for what may be done twice: again while nobody answers, as when the
    /// controller is replaced.
    ///
    /// # Errors
    /// What the broker answers in the end.
    pub fn repeat<M: Clone, R>(
        &self,
        message: M,
        call: impl AsyncFn(AdminClient<Channel>, Request<M>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let deadline = Instant::now() + REPEAT_LIMIT;
        loop {
            match self.call(message.clone(), &call) {
                Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                    std::thread::sleep(REPEAT_INTERVAL);
                }
                answer => return answer,
            }
        }
    }

    /// The cluster as its active controller knows it.
    ///
    /// # Errors
    /// When there is none.
    pub fn describe_cluster(&self) -> Result<ClusterDescription> {
        let request = DescribeClusterRequest {
            from_controller: true,
        };
        Ok(self.call(request, async |mut client, request| {
            client.describe_cluster(request).await
        })?)
    }

    /// The broker as the active controller knows it.
    ///
    /// # Errors
    /// When it is not registered, or there is no controller.
    pub fn broker(&self, id: i32) -> Result<BrokerDescription> {
        let cluster = self.describe_cluster()?;
        let mut brokers = cluster.brokers.into_iter();
        brokers
            .find(|broker| broker.id == id)
            .with_context(|| format!("broker {id} is not registered"))
    }
}

/// Checks that a call was refused, and how.
///
/// # Errors
/// When it was not, or in another way.
pub fn expect_refusal<R: std::fmt::Debug>(answer: Result<R, Status>, code: Code) -> Result<()> {
    match answer {
        Err(status) if status.code() == code => Ok(()),
        other => anyhow::bail!("expected {code:?}, got {other:?}"),
    }
}
