//! A run: a second at a time, users and machines do what the story says, then Kubernetes, brokers and
//! operators go on; every second, call and pass is checked.

use std::fmt::Display;

use k8s_openapi::api::core::v1::Node;
use klamm_crds::{ConfigValue, KafkaCluster};
use serde_json::json;

use crate::admin::{DYNAMIC_KEY, STATIC_KEY};
use crate::api::{Api, any_version};
use crate::brokers::Brokers;
use crate::check::{Checker, Violation};
use crate::kubernetes::{BAD_IMAGE, Kubernetes};
use crate::operator::{Lease, Operator};
use crate::random::Random;
use crate::story::{Event, Story};
use crate::trace::{Seconds, Trace};

/// The one cluster.
pub(crate) const CLUSTER: &str = "demo";
const POOL: &str = "main";
const BROKERS_MAX: i32 = 7;
const HOSTS_PER_ZONE: usize = 3;
/// Once nothing fails any more, everything has come right within so long.
const CONVERGENCE: Seconds = 2_400;
/// Of a thousand calls of an operator, so many are its last.
const DEATHS_PER_MILLE: i64 = 3;
const FAILING_CALLS_PER_MILLE: i64 = 250;
const BAD_KEY: &str = "no.such.key";

/// What ends by itself.
#[derive(Clone, Debug)]
enum End {
    BadImage,
    BadConfig,
    Hold(i32),
    Pause,
    Drain(String),
    Down(String),
    /// The machine is replaced.
    Gone(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Seconds,
    pub(crate) story: Story,
    pub(crate) random: Random,
    trace: Trace,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) brokers: Brokers,
    pub(crate) operators: [Operator; 2],
    pub(crate) lease: Lease,
    /// What the operators' reflectors have.
    pub(crate) nodes_seen: Vec<Node>,
    nodes_frozen_until: Seconds,
    api_errors_until: Seconds,
    admin_errors_until: Seconds,
    ends: Vec<(Seconds, End)>,
    images: u32,
    values: u32,
    healed: bool,
    pub(crate) checker: Checker,
}

/// What a run came to.
pub(crate) struct Finished {
    pub(crate) violation: Option<Violation>,
    pub(crate) lines: Vec<String>,
    pub(crate) seconds: Seconds,
    pub(crate) version: u64,
}

pub(crate) fn run(story: Story, trace: Trace) -> Finished {
    let mut world = World::new(story, trace);
    world.run();
    Finished {
        violation: world.checker.violation.take(),
        seconds: world.now,
        version: world.version(),
        lines: world.trace.into_lines(),
    }
}

fn cluster(story: &Story) -> KafkaCluster {
    let object = json!({
        "apiVersion": "klamm.dev/v1alpha1",
        "kind": "KafkaCluster",
        "metadata": { "name": CLUSTER, "namespace": "shop", "uid": "uid-0", "generation": 1,
            "resourceVersion": "0" },
        "spec": {
            "image": "klamm:1",
            "controllers": { "count": story.voters },
            "pools": [{ "name": POOL, "replicas": story.brokers, "storage": { "size": "1Gi" } }],
            "listeners": [{ "name": "internal", "type": "Internal", "port": 9092 }],
            "rollout": { "soakSeconds": story.soak },
            "scaleDown": { "volumePolicy": if story.deletes_volumes { "Delete" } else { "Retain" } },
            "rebalance": { "mode": story.rebalance },
        },
    });
    serde_json::from_value(object).expect("the spec is one that the API server takes")
}

impl World {
    fn new(mut story: Story, trace: Trace) -> Self {
        let mut random = story.random.fork();
        let api = Api::new(cluster(&story));
        let kubernetes = Kubernetes::new(api, story.zones, HOSTS_PER_ZONE, random.fork());
        let brokers = Brokers::new(story.min_insync, random.fork());
        Self {
            now: 0,
            random,
            trace,
            kubernetes,
            brokers,
            operators: [Operator::default(), Operator::default()],
            lease: Lease::default(),
            nodes_seen: Vec::new(),
            nodes_frozen_until: 0,
            api_errors_until: 0,
            admin_errors_until: 0,
            ends: Vec::new(),
            images: 1,
            values: 1,
            healed: false,
            checker: Checker::default(),
            story,
        }
    }

    /// Rises with everything that an operator can see.
    pub(crate) const fn version(&self) -> u64 {
        self.kubernetes.api.version() + self.brokers.version
    }

    pub(crate) fn note<L: Display>(&mut self, who: impl Display, line: impl FnOnce() -> L) {
        self.trace.add(self.now, who, line);
    }

    pub(crate) fn api_fails(&mut self) -> bool {
        self.now < self.api_errors_until && self.random.chance(FAILING_CALLS_PER_MILLE)
    }

    pub(crate) fn admin_fails(&mut self) -> bool {
        self.now < self.admin_errors_until && self.random.chance(FAILING_CALLS_PER_MILLE)
    }

    pub(crate) fn dies_after_call(&mut self) -> bool {
        !self.healed && self.random.chance(DEATHS_PER_MILLE)
    }

    fn run(&mut self) {
        let events = self.story.events.clone();
        let mut events = events.into_iter().peekable();
        while self.checker.violation.is_none() {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= self.now) {
                self.happen(event);
            }
            self.end_what_is_due();
            if self.now >= self.story.heal_at && !self.healed {
                self.heal();
            }
            self.go_on();
            if self.healed && self.has_converged() {
                self.note("run", || "has come right");
                self.check_idempotence();
                return;
            }
            if self.now > self.story.heal_at + CONVERGENCE {
                self.check_convergence();
            }
            self.now += 1;
        }
    }

    fn go_on(&mut self) {
        self.kubernetes
            .step(self.now, &mut self.brokers, &mut self.trace);
        let former = self.brokers.controller;
        self.brokers.step(self.now);
        if self.brokers.controller != former {
            let controller = self.brokers.controller;
            self.note("brokers", || {
                format!("the active controller is {controller:?}")
            });
        }
        let wanted = usize::try_from(self.story.brokers).unwrap_or(0);
        if self.brokers.partitions.is_empty() && self.brokers.registered.len() >= wanted {
            let (count, factor) = (self.story.partitions, self.story.replication_factor);
            self.brokers.make_partitions(count, factor);
            self.note("user", || {
                format!("{count} partitions with {factor} replicas")
            });
        }
        if self.nodes_frozen_until <= self.now {
            self.nodes_seen = self.nodes();
        }
        self.step_operators();
        self.check_second();
    }

    /// Recorded brokers that stay.
    fn staying(&self) -> Vec<i32> {
        let status = self.kubernetes.api.cluster.status.iter();
        let brokers = status.flat_map(|status| &status.brokers);
        brokers
            .filter(|broker| !broker.leaving)
            .map(|broker| broker.id)
            .collect()
    }

    fn broker(&self, number: usize) -> Option<i32> {
        let brokers = self.staying();
        brokers.get(number % brokers.len().max(1)).copied()
    }

    fn host(&self, number: usize) -> Option<String> {
        self.kubernetes.host_of(self.broker(number)?)
    }

    fn happen(&mut self, event: Event) {
        self.note("story", || format!("{event:?}"));
        let now = self.now;
        match event {
            Event::Upgrade => self.set_image("klamm"),
            Event::BadImage(lasts) => {
                self.set_image(BAD_IMAGE);
                self.ends.push((now + lasts, End::BadImage));
            }
            Event::StaticConfig => self.set_config(STATIC_KEY),
            Event::DynamicConfig => self.set_config(DYNAMIC_KEY),
            Event::BadConfig(lasts) => {
                self.set_config(BAD_KEY);
                self.ends.push((now + lasts, End::BadConfig));
            }
            Event::Scale(by) => self.scale(by, None),
            Event::RemoveBroker(number) => {
                let broker = self.broker(number);
                self.scale(-1, broker);
            }
            Event::Voters(count) => self.kubernetes.api.change_spec(|cluster| {
                let possible = cluster.spec.pools[0].replicas >= count;
                if possible {
                    cluster.spec.controllers.count = count;
                }
            }),
            Event::Hold(number, lasts) => {
                if let Some(id) = self.broker(number) {
                    self.kubernetes
                        .api
                        .change_spec(|cluster| cluster.spec.hold = vec![id]);
                    self.ends.push((now + lasts, End::Hold(id)));
                }
            }
            Event::Pause(lasts) => {
                self.kubernetes
                    .api
                    .change_spec(|cluster| cluster.spec.paused = true);
                self.ends.push((now + lasts, End::Pause));
            }
            Event::CrashLoop(number, lasts) => {
                let broker = self.broker(number).into_iter();
                let loops = broker.map(|id| (id, now + lasts));
                self.kubernetes.crash_loops.extend(loops);
            }
            Event::SlowCatchUp(lasts) => self.brokers.slow_until = now + lasts,
            Event::ApiErrors(lasts) => self.api_errors_until = now + lasts,
            Event::AdminErrors(lasts) => self.admin_errors_until = now + lasts,
            Event::StaleNodes(lasts) => self.nodes_frozen_until = now + lasts,
            Event::CrashOperator => {
                if let Some(holder) = self.lease.holder {
                    self.crash_operator(holder);
                }
            }
            Event::PauseOperator(lasts) => {
                if let Some(holder) = self.lease.holder {
                    self.operators[holder].paused_until = now + lasts;
                }
            }
            Event::DrainNode(..)
            | Event::LoseNode(..)
            | Event::RemoveNode(..)
            | Event::LoseZone(..)
            | Event::LoseVolume(..) => self.happen_to_machine(event),
        }
    }

    fn happen_to_machine(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::DrainNode(number, lasts) => {
                if let Some(name) = self.host(number) {
                    self.kubernetes.set_drain(&name, Some(now + lasts));
                    self.ends.push((now + lasts, End::Drain(name)));
                }
            }
            Event::LoseNode(number, lasts) => {
                if let Some(name) = self.host(number) {
                    self.lose_host(name.clone());
                    self.ends.push((now + lasts, End::Down(name)));
                }
            }
            Event::RemoveNode(number, lasts) => {
                if let Some(name) = self.host(number) {
                    self.lose_host(name.clone());
                    self.ends.push((now + lasts, End::Gone(name)));
                }
            }
            Event::LoseZone(number, lasts) => {
                let zone = format!("zone-{}", number % self.story.zones);
                let hosts = self.kubernetes.hosts.iter();
                let hosts = hosts.filter(|(_, host)| host.zone == zone);
                let names: Vec<String> = hosts.map(|(name, _)| name.clone()).collect();
                for name in names {
                    self.lose_host(name.clone());
                    self.ends.push((now + lasts, End::Down(name)));
                }
            }
            Event::LoseVolume(number) => {
                if let Some(id) = self.broker(number).filter(|id| self.may_lose_volume(*id)) {
                    self.lose_volume(id);
                }
            }
            _ => {}
        }
    }

    fn set_image(&mut self, name: &str) {
        self.images += 1;
        let image = format!("{name}:{}", self.images);
        self.kubernetes
            .api
            .change_spec(|cluster| cluster.spec.image = Some(image));
    }

    fn set_config(&mut self, key: &str) {
        self.values += 1;
        let value = ConfigValue::Integer(i64::from(self.values));
        self.kubernetes.api.change_spec(|cluster| {
            cluster.spec.config.insert(key.to_owned(), value);
        });
    }

    fn scale(&mut self, by: i32, remove: Option<i32>) {
        let fewest = i32::try_from(self.story.replication_factor).unwrap_or(1);
        self.kubernetes.api.change_spec(|cluster| {
            let fewest = fewest.max(cluster.spec.controllers.count);
            let pool = &mut cluster.spec.pools[0];
            let replicas = (pool.replicas + by).clamp(fewest, BROKERS_MAX);
            if replicas < pool.replicas {
                pool.remove = remove.into_iter().collect();
            }
            pool.replicas = replicas;
        });
    }

    fn lose_host(&mut self, name: String) {
        let now = self.now;
        if let Some(host) = self.kubernetes.hosts.get_mut(&name) {
            host.down_since.get_or_insert(now);
        }
    }

    /// Nothing survives the loss of every copy.
    fn may_lose_volume(&self, id: i32) -> bool {
        let brokers = &self.brokers;
        let copied = brokers.partitions.iter().all(|partition| {
            let mut others = partition.isr.iter().filter(|other| **other != id);
            others.any(|other| brokers.is_active(*other)) && partition.moving.is_none()
        });
        let volumes = self.kubernetes.api.volumes.values();
        let volumes: Vec<_> = volumes
            .filter(|volume| volume.metadata.deletion_timestamp.is_none())
            .filter_map(|volume| volume.metadata.uid.as_deref())
            .collect();
        let mut voters = brokers.voters.iter();
        let whole = voters.all(|voter| volumes.contains(&voter.directory.as_str()));
        let spare = !brokers.votes(id) || brokers.voters.len() > 2;
        copied && whole && spare && brokers.controller.is_some()
    }

    fn lose_volume(&mut self, id: i32) {
        let name = format!("data-{CLUSTER}-{POOL}-{id}");
        let volume = self.kubernetes.api.volumes.get(&name).map(any_version);
        if let Some(volume) = volume {
            self.kubernetes.api.delete_volume(&volume, self.now);
            self.kubernetes.remove_pod(id, &mut self.brokers);
            self.kubernetes.api.remove_volume(&volume.name);
        }
    }

    fn end_what_is_due(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.ends)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.ends = later;
        let due: Vec<(Seconds, End)> = due;
        due.into_iter().for_each(|(_, end)| self.end(end));
    }

    fn end(&mut self, end: End) {
        self.note("story", || format!("ends: {end:?}"));
        match end {
            End::BadImage => {
                let image = self.kubernetes.api.cluster.spec.image.as_deref();
                if image.is_some_and(|image| image.starts_with(BAD_IMAGE)) {
                    self.set_image("klamm");
                }
            }
            End::BadConfig => self.kubernetes.api.change_spec(|cluster| {
                cluster.spec.config.remove(BAD_KEY);
            }),
            End::Hold(id) => self.kubernetes.api.change_spec(|cluster| {
                cluster.spec.hold.retain(|held| *held != id);
            }),
            End::Pause => self
                .kubernetes
                .api
                .change_spec(|cluster| cluster.spec.paused = false),
            End::Drain(name) => self.kubernetes.set_drain(&name, None),
            End::Down(name) => {
                if let Some(host) = self.kubernetes.hosts.get_mut(&name) {
                    host.down_since = None;
                }
            }
            End::Gone(name) => self.kubernetes.replace_host(&name, &mut self.brokers),
        }
    }

    /// From here on nothing fails.
    fn heal(&mut self) {
        self.healed = true;
        let ends = std::mem::take(&mut self.ends);
        ends.into_iter().for_each(|(_, end)| self.end(end));
        self.kubernetes.crash_loops.clear();
        self.brokers.slow_until = self.now;
        self.nodes_frozen_until = self.now;
        self.api_errors_until = self.now;
        self.admin_errors_until = self.now;
        self.note("story", || "nothing fails from here on");
    }
}
