//! The only writer of a cluster's objects: server-side apply, by force, as what the operator says
//! about them is what they shall be.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt as _};
use operator_plan::naming;
use operator_plan::resources::Object;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Brings the object to the API server.
pub(crate) async fn apply(client: &Client, object: &Object) -> Result<(), kube::Error> {
    match object {
        Object::ServiceAccount(object) => apply_one(client, object).await,
        Object::Service(object) => apply_one(client, object).await,
        Object::ConfigMap(object) => apply_one(client, object).await,
        Object::NetworkPolicy(object) => apply_one(client, object).await,
        Object::PodDisruptionBudget(object) => apply_one(client, object).await,
        Object::PersistentVolumeClaim(object) => apply_one(client, object).await,
        Object::StatefulSet(object) => apply_one(client, object.as_ref()).await,
    }
}

async fn apply_one<K>(client: &Client, object: &K) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    tracing::info!(kind = %K::kind(&()), %namespace, %name, "applying");
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let params = PatchParams::apply(naming::OPERATOR).force();
    api.patch(&name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

/// Deletes the object of that name if it still is as `judged`. One that is gone, or has changed, is
/// fine: it is looked at again.
pub(crate) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    judged: Option<Preconditions>,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let mut params = DeleteParams::background();
    if let Some(judged) = judged {
        params = params.preconditions(judged);
    }
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}
