//! What reconciliations share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Node;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::Store;
use kube::{Api, Client, Resource};
use operator_plan::naming;
use operator_plan::observed::Defaults;

use crate::metrics::Metrics;
use crate::run::Settings;

const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_DOUBLINGS_MAX: u32 = 6;

pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) nodes: Store<Node>,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) defaults: Defaults,
    /// Above that of every operator before this one.
    pub(crate) epoch: u64,
    /// Namespace that is managed; nothing for all.
    namespace: Option<String>,
    /// Failures in a row by object uid; an entry goes with the first success.
    failures: Mutex<HashMap<String, u32>>,
    /// Brokers' tokens by cluster uid, so that a Secret deleted by hand comes back as it was.
    tokens: Mutex<HashMap<String, String>>,
}

impl Context {
    pub(crate) fn new(
        settings: Settings,
        client: Client,
        nodes: Store<Node>,
        metrics: Arc<Metrics>,
        epoch: u64,
    ) -> Self {
        let operator_pods = settings.operator_pods();
        let reporter = Reporter {
            controller: naming::OPERATOR.to_owned(),
            instance: Some(settings.identity),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            nodes,
            metrics,
            epoch,
            defaults: Defaults {
                image: settings.broker_image,
                image_pull_policy: settings.broker_image_pull_policy,
                operator_pods,
            },
            namespace: (!settings.cluster_wide).then_some(settings.namespace),
            failures: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// Objects of all managed namespaces.
    pub(crate) fn managed<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    /// Objects of one namespace.
    pub(crate) fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    pub(crate) fn succeeded(&self, uid: &str) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }

    /// How long to wait before the next attempt.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(uid.to_owned()).or_default();
        *count = (*count + 1).min(BACKOFF_DOUBLINGS_MAX);
        BACKOFF_FIRST * 2u32.pow(*count)
    }

    pub(crate) fn remember_token(&self, uid: &str, token: &str) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.insert(uid.to_owned(), token.to_owned());
    }

    pub(crate) fn remembered_token(&self, uid: &str) -> Option<String> {
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
    }

    /// The object is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.succeeded(uid);
        self.tokens
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}
