//! Where a question is answered that needs the newest state: on the active controller.

use std::sync::Arc;

use klamm_proto::v1::admin_client::AdminClient;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use crate::controller::{Controller, ControllerView, ViewError};
use crate::rpc::Connection;

/// Set on a request that another broker has passed on: it goes no further.
const FORWARDED_KEY: &str = "klamm-forwarded";

/// Who answers.
pub(super) enum Route {
    /// This broker, from this view.
    Here(ControllerView),
    /// The active controller.
    There(AdminClient<Connection>),
}

/// Finds the active controller.
pub(super) async fn route<T>(
    controller: &Arc<Controller>,
    request: &Request<T>,
) -> Result<Route, Status> {
    match controller.view().await {
        Ok(view) => Ok(Route::Here(view)),
        Err(ViewError::Elsewhere(active)) if !request.metadata().contains_key(FORWARDED_KEY) => {
            let client = controller.admin_client(active).map(Route::There);
            client.ok_or_else(|| Status::unavailable(ViewError::Elsewhere(active).to_string()))
        }
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}

/// The request as it is passed on.
pub(super) fn forwarded<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert(FORWARDED_KEY, MetadataValue::from_static("1"));
    request
}
