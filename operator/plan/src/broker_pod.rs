//! What a broker's pod says of itself.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;

/// A broker's pod against its newest revision.
#[derive(Clone, Debug)]
pub struct BrokerPod {
    pub id: i32,
    pub zone: Option<String>,
    pub pod: PodState,
    /// When its node took the pod up: no process of the pod is older.
    pub taken_up: Option<Timestamp>,
    /// Since when it is ready.
    pub ready_since: Option<Timestamp>,
    /// Whether pod or StatefulSet are of another revision than the newest.
    pub outdated: bool,
}

/// State of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PodState {
    Absent,
    /// Pending, or its container cannot start; why.
    NotRunning(String),
    /// Running, not ready.
    Starting,
    Ready,
    Terminating,
}

impl PodState {
    /// Whether a process may be at work.
    #[must_use]
    pub fn runs(&self) -> bool {
        matches!(self, Self::Starting | Self::Ready)
    }
}

/// What a pod's status says.
#[must_use]
pub fn pod_state(pod: &Pod) -> PodState {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodState::Terminating;
    }
    let Some(status) = &pod.status else {
        return PodState::NotRunning("Pending".to_owned());
    };
    let waiting = status
        .container_statuses
        .iter()
        .flatten()
        .filter_map(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone())
        .next();
    let unscheduled = condition(pod, "PodScheduled").and_then(|found| found.reason.clone());
    match (status.phase.as_deref(), waiting) {
        (_, Some(reason)) => PodState::NotRunning(reason),
        (Some("Running"), None) => match ready_since(pod) {
            Some(_) => PodState::Ready,
            None => PodState::Starting,
        },
        (phase, None) => PodState::NotRunning(
            unscheduled.unwrap_or_else(|| phase.unwrap_or("Pending").to_owned()),
        ),
    }
}

/// Since when the pod is ready, if it is. A pod that does not say when has been so for ever.
#[must_use]
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    let since = ready.last_transition_time.as_ref().map(|time| time.0);
    Some(since.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// When its node took the pod up.
#[must_use]
pub fn taken_up(pod: &Pod) -> Option<Timestamp> {
    let started = pod.status.as_ref()?.start_time.as_ref()?;
    Some(started.0)
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == type_)
}
