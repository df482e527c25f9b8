//! Which pod, if any, is brought to the newest revision now.
//!
//! A running broker is stopped only when every broker serves, every partition is fully in sync, and
//! no other pod is being replaced; the active controller goes last. A pod that does not run has
//! nothing to lose and is replaced at once, so that a bad revision can be repaired; one that stops
//! anyway comes back on the newest revision unless that revision is known not to start. Whatever is
//! not known forbids: no time-out ever restarts anything.
//!
//! Invariants (property tests): at most one running pod is replaced, and none while another broker
//! is missing; repeated decisions end with every pod up to date when all brokers come back; a
//! revision that does not start stops at one broker.

use k8s_openapi::api::core::v1::Pod;

use crate::observed::Admin;

/// A broker's pod against its newest revision.
#[derive(Clone, Debug)]
pub struct BrokerPod {
    pub id: i32,
    pub pod: PodState,
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

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rollout {
    /// Every pod is of the newest revision.
    UpToDate,
    /// This broker's turn.
    Replace { id: i32, reason: &'static str },
    /// Pods are outdated; why none is replaced.
    Waiting(String),
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
    let condition = |type_: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == type_)
    };
    let unscheduled = condition("PodScheduled").and_then(|condition| condition.reason.clone());
    match (status.phase.as_deref(), waiting) {
        (_, Some(reason)) => PodState::NotRunning(reason),
        (Some("Running"), None) => match condition("Ready") {
            Some(ready) if ready.status == "True" => PodState::Ready,
            _ => PodState::Starting,
        },
        (phase, None) => PodState::NotRunning(
            unscheduled.unwrap_or_else(|| phase.unwrap_or("Pending").to_owned()),
        ),
    }
}

/// Decides.
#[must_use]
pub fn decide(brokers: &[BrokerPod], admin: &Admin) -> Rollout {
    let outdated = || brokers.iter().filter(|broker| broker.outdated);
    if outdated().next().is_none() {
        return Rollout::UpToDate;
    }
    let unable = brokers.iter().find_map(|broker| match &broker.pod {
        PodState::NotRunning(why) if !broker.outdated => Some((broker.id, why)),
        _ => None,
    });
    for broker in outdated() {
        match broker.pod {
            PodState::Absent | PodState::NotRunning(_) => {
                return Rollout::Replace {
                    id: broker.id,
                    reason: "its pod does not run",
                };
            }
            PodState::Terminating if unable.is_none() => {
                return Rollout::Replace {
                    id: broker.id,
                    reason: "its pod is stopping",
                };
            }
            PodState::Terminating | PodState::Starting | PodState::Ready => {}
        }
    }
    if let Some((id, why)) = unable {
        return Rollout::Waiting(format!(
            "broker {id} does not start on the newest revision ({why}): correct the spec, or \
             restore the former one"
        ));
    }
    match hindrance(brokers, admin) {
        Some(reason) => Rollout::Waiting(reason),
        None => next(brokers, admin),
    }
}

/// Why no running broker may be stopped now.
#[must_use]
pub fn hindrance(brokers: &[BrokerPod], admin: &Admin) -> Option<String> {
    if let Some(broker) = brokers.iter().find(|broker| broker.pod != PodState::Ready) {
        return Some(format!("the pod of broker {} is not ready", broker.id));
    }
    let facts = match admin {
        Admin::Unreachable(why) => return Some(format!("the brokers cannot be asked: {why}")),
        Admin::Answered(facts) => facts,
    };
    if facts.controller_id.is_none() {
        return Some("there is no active controller".to_owned());
    }
    if let Some(broker) = brokers.iter().find(|broker| !admin.serves(broker.id)) {
        return Some(format!("broker {} does not serve yet", broker.id));
    }
    if facts.offline_partitions > 0 {
        return Some(format!(
            "{} partitions have no leader",
            facts.offline_partitions
        ));
    }
    if facts.under_replicated_partitions > 0 {
        return Some(format!(
            "{} partitions are not fully in sync",
            facts.under_replicated_partitions
        ));
    }
    None
}

fn next(brokers: &[BrokerPod], admin: &Admin) -> Rollout {
    let controller_id = match admin {
        Admin::Answered(facts) => facts.controller_id,
        Admin::Unreachable(_) => None,
    };
    brokers
        .iter()
        .filter(|broker| broker.outdated)
        .min_by_key(|broker| (Some(broker.id) == controller_id, broker.id))
        .map_or(Rollout::UpToDate, |broker| Rollout::Replace {
            id: broker.id,
            reason: "its configuration changed",
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::observed::{BrokerFacts, BrokerState, ClusterFacts};

    fn answered(serving: &[i32], controller_id: Option<i32>) -> ClusterFacts {
        let facts = |id: &i32| {
            let state = BrokerState::Serving;
            (
                *id,
                BrokerFacts {
                    state,
                    rack: None,
                    replicas: 0,
                    leaders: 0,
                },
            )
        };
        ClusterFacts {
            controller_id,
            brokers: serving.iter().map(facts).collect(),
            offline_partitions: 0,
            under_replicated_partitions: 0,
            under_min_isr_partitions: 0,
        }
    }

    fn pods(states: &[(PodState, bool)]) -> Vec<BrokerPod> {
        (0..)
            .zip(states)
            .map(|(id, (pod, outdated))| BrokerPod {
                id,
                pod: pod.clone(),
                outdated: *outdated,
            })
            .collect()
    }

    fn stuck() -> PodState {
        PodState::NotRunning("ImagePullBackOff".to_owned())
    }

    fn waits_for(rollout: &Rollout, text: &str) -> bool {
        matches!(rollout, Rollout::Waiting(reason) if reason.contains(text))
    }

    fn replaced(rollout: &Rollout) -> Option<i32> {
        match rollout {
            Rollout::Replace { id, .. } => Some(*id),
            Rollout::UpToDate | Rollout::Waiting(_) => None,
        }
    }

    #[test]
    fn healthy_clusters_roll_one_by_one_with_the_controller_last() {
        use PodState::Ready;
        let healthy = Admin::Answered(answered(&[0, 1, 2], Some(0)));
        type Case<'a> = (&'a [(PodState, bool)], Option<i32>);
        let cases: [Case<'_>; 3] = [
            (&[(Ready, true), (Ready, true), (Ready, true)], Some(1)),
            (&[(Ready, true), (Ready, false), (Ready, true)], Some(2)),
            (&[(Ready, true), (Ready, false), (Ready, false)], Some(0)),
        ];
        for (states, expected) in cases {
            assert_eq!(
                replaced(&decide(&pods(states), &healthy)),
                expected,
                "{states:?}"
            );
        }
        let done = pods(&[(Ready, false), (stuck(), false)]);
        assert_eq!(decide(&done, &healthy), Rollout::UpToDate);
    }

    #[test]
    fn what_is_missing_or_unknown_forbids() {
        use PodState::{Absent, Ready, Starting, Terminating};
        let outdated = pods(&[(Ready, true), (Ready, false), (Ready, false)]);
        let silent = Admin::Unreachable("time-out".to_owned());
        assert!(waits_for(&decide(&outdated, &silent), "cannot be asked"));
        let leaderless = Admin::Answered(answered(&[0, 1, 2], None));
        assert!(waits_for(
            &decide(&outdated, &leaderless),
            "no active controller"
        ));
        let fenced = Admin::Answered(answered(&[0, 1], Some(0)));
        assert!(waits_for(
            &decide(&outdated, &fenced),
            "broker 2 does not serve"
        ));
        let mut facts = answered(&[0, 1, 2], Some(0));
        facts.under_replicated_partitions = 4;
        assert!(waits_for(
            &decide(&outdated, &Admin::Answered(facts.clone())),
            "not fully in sync"
        ));
        facts.offline_partitions = 1;
        assert!(waits_for(
            &decide(&outdated, &Admin::Answered(facts)),
            "no leader"
        ));

        let healthy = Admin::Answered(answered(&[0, 1, 2], Some(0)));
        for missing in [Absent, Starting, Terminating] {
            let brokers = pods(&[(Ready, true), (missing, false), (Ready, false)]);
            assert!(waits_for(
                &decide(&brokers, &healthy),
                "broker 1 is not ready"
            ));
        }
    }

    #[test]
    fn a_bad_revision_stops_at_one_broker_and_can_be_repaired() {
        use PodState::{Ready, Terminating};
        let healthy = Admin::Answered(answered(&[0, 1, 2], Some(0)));
        let bad = pods(&[(Ready, true), (stuck(), false), (Terminating, true)]);
        assert!(waits_for(&decide(&bad, &healthy), "ImagePullBackOff"));
        let corrected = pods(&[(Ready, true), (stuck(), true), (Ready, true)]);
        assert_eq!(replaced(&decide(&corrected, &healthy)), Some(1));
        let never_started = pods(&[(stuck(), true), (stuck(), true), (stuck(), true)]);
        let silent = Admin::Unreachable("nobody there".to_owned());
        assert_eq!(replaced(&decide(&never_started, &silent)), Some(0));
    }

    fn pod_state() -> impl Strategy<Value = PodState> {
        prop_oneof![
            4 => Just(PodState::Ready),
            1 => Just(PodState::Absent),
            1 => Just(PodState::Starting),
            1 => Just(PodState::Terminating),
            1 => Just(stuck()),
        ]
    }

    proptest! {
        #[test]
        fn a_running_broker_stops_only_when_nothing_is_missing(
            states in prop::collection::vec((pod_state(), any::<bool>()), 1..8),
            serving in prop::collection::vec(any::<bool>(), 8),
            controller in prop::option::of(0..8i32),
            under_replicated in 0..2u32,
            reachable in any::<bool>(),
        ) {
            let brokers = pods(&states);
            let ids: Vec<i32> =
                (0..8).filter(|id| serving[usize::try_from(*id).unwrap()]).collect();
            let mut facts = answered(&ids, controller);
            facts.under_replicated_partitions = under_replicated;
            let admin = if reachable {
                Admin::Answered(facts)
            } else {
                Admin::Unreachable("time-out".to_owned())
            };
            if let Some(id) = replaced(&decide(&brokers, &admin)) {
                let target = &brokers[usize::try_from(id).unwrap()];
                prop_assert!(target.outdated);
                if target.pod == PodState::Ready {
                    prop_assert!(brokers.iter().all(|broker| broker.pod == PodState::Ready));
                    prop_assert!(brokers.iter().all(|broker| admin.serves(broker.id)));
                    prop_assert!(reachable && under_replicated == 0 && controller.is_some());
                }
                prop_assert_ne!(&target.pod, &PodState::Starting);
            }
        }

        #[test]
        fn rollouts_end(
            outdated in prop::collection::vec(any::<bool>(), 1..8),
            controller in 0..8i32,
        ) {
            let states: Vec<_> = outdated.iter().map(|o| (PodState::Ready, *o)).collect();
            let mut brokers = pods(&states);
            let ids: Vec<i32> = brokers.iter().map(|broker| broker.id).collect();
            let admin = Admin::Answered(answered(&ids, Some(controller)));
            for _ in 0..outdated.iter().filter(|o| **o).count() {
                let id = replaced(&decide(&brokers, &admin)).unwrap();
                brokers[usize::try_from(id).unwrap()].outdated = false;
            }
            prop_assert_eq!(decide(&brokers, &admin), Rollout::UpToDate);
        }
    }
}
