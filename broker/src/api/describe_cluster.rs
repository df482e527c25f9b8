//! DescribeCluster (KIP-700): the brokers of the cluster, for admin clients.

use broker_core::metadata::{BrokerImage, Endpoint};
use broker_wire::ErrorCode;
use broker_wire::message::describe_cluster::DescribeClusterBroker;
use broker_wire::message::{DescribeClusterRequest, DescribeClusterResponse};

use super::authorized_operations;
use super::context::{Context, RequestInfo};

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(
    ctx: &Context,
    info: &RequestInfo,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse {
    let endpoint_type = request.endpoint_type;
    if endpoint_type != BROKERS {
        let (error_code, message) = match endpoint_type {
            CONTROLLERS => (
                ErrorCode::MismatchedEndpointType,
                "this is a broker, no controller",
            ),
            _ => (
                ErrorCode::UnsupportedEndpointType,
                "ask for brokers: endpoint type 1",
            ),
        };
        return DescribeClusterResponse {
            error_code,
            error_message: Some(message.into()),
            endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    let image = ctx.image();
    let brokers: Vec<_> = image
        .brokers
        .values()
        .filter(|broker| request.include_fenced_brokers || !broker.fenced)
        .filter_map(|broker| Some(described(broker, broker.endpoint(&info.listener)?)))
        .collect();
    let controller = ctx.controller.active_controller().map(|id| id.0);
    let is_listed = |id: &i32| brokers.iter().any(|broker| broker.broker_id == *id);
    let mut response = DescribeClusterResponse {
        endpoint_type,
        cluster_id: image.cluster_id.clone().into(),
        controller_id: controller.filter(is_listed).unwrap_or(-1),
        brokers,
        ..DescribeClusterResponse::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = authorized_operations::CLUSTER;
    }
    response
}

fn described(broker: &BrokerImage, endpoint: &Endpoint) -> DescribeClusterBroker {
    DescribeClusterBroker {
        broker_id: broker.id.0,
        host: endpoint.host.clone().into(),
        port: i32::try_from(endpoint.port).unwrap_or(-1),
        rack: broker.rack.clone().map(Into::into),
        is_fenced: broker.fenced,
    }
}
