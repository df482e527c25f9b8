//! A model of what Kubernetes does with the objects: StatefulSets make pods, a scheduler places them,
//! kubelets run and end them, volumes go once nobody uses them.

mod pods;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use operator_plan::resources::versions;
pub(crate) use pods::{broker_id, is_ready, set_of};
use pods::{config_key, container, image, pod_of, set_ready, set_scheduled, volume_of, zone};

use crate::api::{Api, any_version};
use crate::brokers::{Brokers, Process};
use crate::clock;
use crate::random::Random;
use crate::trace::{Seconds, Trace};

/// Images of this prefix cannot be pulled.
pub(crate) const BAD_IMAGE: &str = "bad";
pub(crate) const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// A node that is silent for so long makes its pods count as not ready.
const NODE_GRACE: Seconds = 10;
/// Between two attempts to evict a pod.
const EVICTION_INTERVAL: Seconds = 5;

/// A machine.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) zone: String,
    pub(crate) down_since: Option<Seconds>,
    pub(crate) drains_until: Option<Seconds>,
}

/// What a node makes of a pod.
#[derive(Clone, Debug)]
struct Run {
    host: Option<String>,
    phase: Phase,
    /// What its status says: phase, whether it has a node, whether it is ready.
    shown: Option<(Phase, bool, bool)>,
}

/// Who a pod is.
#[derive(Clone, Debug)]
struct Key {
    name: String,
    uid: String,
    id: i32,
    deleted: bool,
}

impl Key {
    fn of(pod: &Pod) -> Self {
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            id: broker_id(pod),
            deleted: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Unscheduled,
    Creating(Seconds),
    PullFails,
    Running,
    /// Waits to be started again.
    Crashed(Seconds),
    Stopping(Seconds),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    pub(crate) api: Api,
    pub(crate) hosts: BTreeMap<String, Host>,
    /// By the pod's uid.
    runs: BTreeMap<String, Run>,
    /// Brokers whose process ends again and again, and until when.
    pub(crate) crash_loops: BTreeMap<i32, Seconds>,
    random: Random,
    incarnations: u64,
}

impl Kubernetes {
    pub(crate) fn new(api: Api, zones: usize, hosts_per_zone: usize, random: Random) -> Self {
        let mut made = Self {
            api,
            hosts: BTreeMap::new(),
            runs: BTreeMap::new(),
            crash_loops: BTreeMap::new(),
            random,
            incarnations: 0,
        };
        for number in 0..zones * hosts_per_zone {
            made.add_host(number, zones);
        }
        made
    }

    fn add_host(&mut self, number: usize, zones: usize) {
        let name = format!("node-{number}");
        let zone = format!("zone-{}", number % zones);
        let labels = BTreeMap::from([(ZONE_LABEL.to_owned(), zone.clone())]);
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        self.api.nodes.insert(name.clone(), node);
        let host = Host {
            zone,
            down_since: None,
            drains_until: None,
        };
        self.hosts.insert(name, host);
    }

    /// The broker's machine.
    pub(crate) fn host_of(&self, id: i32) -> Option<String> {
        let pod = self.api.pods.values().find(|pod| broker_id(pod) == id)?;
        self.run(pod)?.host.clone()
    }

    fn run(&self, pod: &Pod) -> Option<&Run> {
        self.runs.get(pod.metadata.uid.as_deref()?)
    }

    pub(crate) fn set_drain(&mut self, name: &str, until: Option<Seconds>) {
        if let Some(host) = self.hosts.get_mut(name) {
            host.drains_until = until;
            self.api.update_node(name, |node| {
                node.spec.get_or_insert_default().unschedulable = until.map(|_| true);
            });
        }
    }

    /// The machine is gone for good, and a new one takes its place.
    pub(crate) fn replace_host(&mut self, name: &str, brokers: &mut Brokers) {
        let is_there = |pod: &&Pod| {
            self.run(pod)
                .is_some_and(|run| run.host.as_deref() == Some(name))
        };
        let pods: Vec<Key> = self
            .api
            .pods
            .values()
            .filter(is_there)
            .map(Key::of)
            .collect();
        for pod in &pods {
            self.remove(pod, brokers);
        }
        if let Some(host) = self.hosts.get_mut(name) {
            host.down_since = None;
        }
        self.set_drain(name, None);
    }

    /// The broker's pod is gone at once.
    pub(crate) fn remove_pod(&mut self, id: i32, brokers: &mut Brokers) {
        let pod = self.api.pods.values().find(|pod| broker_id(pod) == id);
        if let Some(pod) = pod.map(Key::of) {
            self.remove(&pod, brokers);
        }
    }

    fn remove(&mut self, pod: &Key, brokers: &mut Brokers) {
        brokers.end(pod.id);
        self.runs.remove(&pod.uid);
        self.api.remove_pod(&pod.name);
    }

    /// A second passes.
    pub(crate) fn step(&mut self, now: Seconds, brokers: &mut Brokers, trace: &mut Trace) {
        self.make_pods();
        self.evict(now, trace);
        let pods: Vec<Key> = self.api.pods.values().map(Key::of).collect();
        for pod in &pods {
            self.step_pod(pod, now, brokers, trace);
        }
        let unused = |name: &&String| {
            let pod = name.trim_start_matches("data-");
            !self.api.pods.contains_key(&format!("{pod}-0"))
        };
        let deleted = self.api.volumes.iter();
        let deleted = deleted.filter(|(_, volume)| volume.metadata.deletion_timestamp.is_some());
        let gone: Vec<String> = deleted
            .map(|(name, _)| name)
            .filter(unused)
            .cloned()
            .collect();
        for name in gone {
            trace.add(now, "kubernetes", || format!("{name} is gone"));
            self.api.remove_volume(&name);
        }
    }

    fn make_pods(&mut self) {
        let sets = self.api.stateful_sets.iter();
        let lack = sets.filter(|(name, _)| !self.api.pods.contains_key(&format!("{name}-0")));
        let missing: Vec<Pod> = lack.map(|(_, set)| pod_of(set)).collect();
        missing.iter().for_each(|pod| self.api.create_pod(pod));
    }

    /// Whether the pod's StatefulSet is gone, or another one by now.
    fn is_orphan(&self, pod: &Key) -> bool {
        let pod = self.api.pods.get(&pod.name);
        let owners = pod
            .into_iter()
            .flat_map(|pod| &pod.metadata.owner_references);
        let owners = owners.flatten();
        let mut uids = owners.map(|owner| Some(&owner.uid));
        let mut sets = self.api.stateful_sets.values();
        let owner = uids.next().flatten();
        !sets.any(|set| set.metadata.uid.as_ref() == owner)
    }

    fn step_pod(&mut self, pod: &Key, now: Seconds, brokers: &mut Brokers, trace: &mut Trace) {
        let fresh = Run {
            host: None,
            phase: Phase::Unscheduled,
            shown: None,
        };
        let mut run = self.runs.remove(&pod.uid).unwrap_or(fresh);
        if !pod.deleted && self.is_orphan(pod) {
            let orphan = self.api.pods.get(&pod.name).map(any_version);
            if let Some(orphan) = orphan {
                self.api.delete_pod(&orphan, now);
            }
        }
        let host = run.host.as_ref().and_then(|name| self.hosts.get(name));
        if let Some(since) = host.and_then(|host| host.down_since) {
            self.lose(pod, now - since, &mut run, brokers);
        } else if pod.deleted {
            if self.stop(pod, now, &mut run, brokers) {
                trace.add(now, "kubernetes", || {
                    format!("the pod of broker {} is gone", pod.id)
                });
                return;
            }
            self.show(pod, now, &mut run, brokers);
        } else {
            self.go_on(pod, now, &mut run, brokers);
            self.show(pod, now, &mut run, brokers);
        }
        self.runs.insert(pod.uid.clone(), run);
    }

    fn lose(&mut self, pod: &Key, silent: Seconds, run: &mut Run, brokers: &mut Brokers) {
        if matches!(run.phase, Phase::Running | Phase::Stopping(_)) {
            brokers.end(pod.id);
        }
        if run.phase != Phase::Unscheduled {
            run.phase = Phase::Crashed(0);
        }
        if silent == NODE_GRACE {
            self.api
                .update_pod(&pod.name, |pod| set_ready(pod, false, 0));
            run.shown = None;
        }
    }

    /// Whether the pod is gone.
    fn stop(&mut self, pod: &Key, now: Seconds, run: &mut Run, brokers: &mut Brokers) -> bool {
        match run.phase {
            Phase::Stopping(at) if at > now => false,
            Phase::Running => {
                brokers.ask_to_stop(pod.id);
                run.phase = Phase::Stopping(now + self.random.range(2, 8));
                false
            }
            Phase::Stopping(_) => {
                self.remove(pod, brokers);
                true
            }
            Phase::Unscheduled | Phase::Creating(_) | Phase::PullFails | Phase::Crashed(_) => {
                run.phase = Phase::Stopping(now + 1);
                false
            }
        }
    }

    fn go_on(&mut self, key: &Key, now: Seconds, run: &mut Run, brokers: &mut Brokers) {
        let Some(pod) = self.api.pods.get(&key.name) else {
            return;
        };
        match run.phase {
            Phase::Unscheduled => {
                run.host = self.place(pod);
                if run.host.is_some() {
                    run.phase = Phase::Creating(now + self.random.range(1, 6));
                }
            }
            Phase::Creating(at) if at <= now && image(pod).starts_with(BAD_IMAGE) => {
                run.phase = Phase::PullFails;
            }
            Phase::Creating(at) | Phase::Crashed(at) if at <= now => {
                self.start(key, now, brokers);
                run.phase = Phase::Running;
            }
            Phase::Running => {
                let crashes = self
                    .crash_loops
                    .get(&key.id)
                    .is_some_and(|until| *until > now);
                if crashes && self.random.chance(100) {
                    brokers.end(key.id);
                    run.phase = Phase::Crashed(now + self.random.range(3, 25));
                }
            }
            Phase::Creating(_) | Phase::PullFails | Phase::Crashed(_) | Phase::Stopping(_) => {}
        }
    }

    /// A machine in the pod's zone, one without brokers before others.
    fn place(&self, pod: &Pod) -> Option<String> {
        let volume = self.api.volumes.get(&volume_of(pod))?;
        if volume.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let zone = zone(pod)?;
        let fits = |host: &Host| {
            host.zone == zone && host.down_since.is_none() && host.drains_until.is_none()
        };
        let load = |name: &String| {
            let runs = self.runs.values();
            runs.filter(|run| run.host.as_ref() == Some(name)).count()
        };
        let fitting = self.hosts.iter().filter(|(_, host)| fits(host));
        let best = fitting.map(|(name, _)| name).min_by_key(|name| load(name));
        best.cloned()
    }

    fn start(&mut self, key: &Key, now: Seconds, brokers: &mut Brokers) {
        let Some(pod) = self.api.pods.get(&key.name) else {
            return;
        };
        let volume = self.api.volumes.get(&volume_of(pod));
        let directory = volume.and_then(|volume| volume.metadata.uid.clone());
        let founders = self.founders(pod);
        self.incarnations += 1;
        let process = Process {
            incarnation: format!("process-{}", self.incarnations),
            started_at: now,
            directory: directory.unwrap_or_default(),
            recovered_at: now + self.random.range(1, 12),
            founders,
            stopping: false,
            ready: false,
        };
        brokers.start(key.id, process);
    }

    /// With whom the pod's process may form a quorum.
    fn founders(&self, pod: &Pod) -> Vec<i32> {
        let arguments = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut arguments = arguments.flat_map(|container| container.args.iter().flatten());
        if arguments.any(|argument| argument == "klamm.quorum.bootstrap.enable=false") {
            return Vec::new();
        }
        let maps = self.api.config_maps.values().next();
        let key = config_key(pod);
        let file = key.and_then(|key| versions(maps)?.get(key));
        let lines = file.into_iter().flat_map(|file| file.lines());
        let mut voters = lines.filter_map(|line| line.strip_prefix("controller.quorum.voters="));
        let voters = voters.next().unwrap_or_default().split(',');
        voters
            .filter_map(|voter| voter.split('@').next()?.parse().ok())
            .collect()
    }

    /// Writes the pod's status as its node tells it.
    fn show(&mut self, pod: &Key, now: Seconds, run: &mut Run, brokers: &Brokers) {
        let ready = run.phase == Phase::Running && brokers.is_ready(pod.id);
        let shown = Some((run.phase, run.host.is_some(), ready));
        if run.shown == shown {
            return;
        }
        run.shown = shown;
        let (phase, waiting) = match run.phase {
            Phase::Unscheduled => ("Pending", None),
            Phase::Creating(_) => ("Pending", Some("ContainerCreating")),
            Phase::PullFails => ("Pending", Some("ImagePullBackOff")),
            Phase::Crashed(_) => ("Running", Some("CrashLoopBackOff")),
            Phase::Running | Phase::Stopping(_) => ("Running", None),
        };
        self.api.update_pod(&pod.name, |pod| {
            let status = pod.status.get_or_insert_default();
            status.phase = Some(phase.to_owned());
            if run.host.is_some() && status.start_time.is_none() {
                status.start_time = Some(Time(clock::timestamp(now)));
            }
            status.container_statuses = waiting.map(|reason| vec![container(reason)]);
            set_scheduled(status, run.host.is_some());
            set_ready(pod, ready, now);
        });
    }

    /// Machines that are drained lose their pods, as far as the budget lets them go.
    fn evict(&mut self, now: Seconds, trace: &mut Trace) {
        let drained = |run: &Run| {
            let host = run.host.as_ref().and_then(|name| self.hosts.get(name));
            host.is_some_and(|host| host.drains_until.is_some())
        };
        let pods = self.api.pods.values();
        let due = pods.filter(|pod| self.run(pod).is_some_and(drained));
        let due: Vec<Pod> = due.cloned().collect();
        if due.is_empty() || now % EVICTION_INTERVAL != 0 {
            return;
        }
        for pod in &due {
            if pod.metadata.deletion_timestamp.is_none() && self.may_evict(pod) {
                let id = broker_id(pod);
                trace.add(now, "kubernetes", || {
                    format!("evicts the pod of broker {id}")
                });
                self.api.delete_pod(&any_version(pod), now);
            }
        }
    }

    fn may_evict(&self, pod: &Pod) -> bool {
        let counts = |pod: &&Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        let healthy = self.api.pods.values().filter(counts).count();
        !is_ready(pod) || self.api.stateful_sets.len() < healthy + self.budget()
    }

    /// How many brokers may be unavailable.
    pub(crate) fn budget(&self) -> usize {
        let spec = self
            .api
            .budgets
            .values()
            .next()
            .and_then(|budget| budget.spec.as_ref());
        match spec.and_then(|spec| spec.max_unavailable.as_ref()) {
            Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(0),
            Some(IntOrString::String(_)) | None => 0,
        }
    }
}
