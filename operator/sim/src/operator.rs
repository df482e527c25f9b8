//! Operator processes: observe, ask, plan, and carry the plan out one call at a time, in the order of
//! `operator/src/kafka_cluster/{observe,execute,mod}.rs`. A process may die or stand still between any
//! two calls; one that takes over knows nothing of it.

mod call;

use std::collections::VecDeque;

pub(crate) use call::{Call, is_idle};
use call::{calls, name};
use k8s_openapi::api::core::v1::Node;
use klamm_crds::{KafkaCluster, KafkaClusterStatus};
use operator_plan::kafka_cluster::{Plan, Question, plan, question};
use operator_plan::naming;
use operator_plan::observed::{
    Admin, Answers, ConfigVerdicts, Defaults, DrainProgress, Observed, RebalanceProgress,
    RestartVerdict,
};

use crate::admin::Request;
use crate::check::Known;
use crate::clock;
use crate::trace::Seconds;
use crate::world::World;

/// Between passes: while something changes, and otherwise.
const LOOK_INTERVAL_CHANGING: Seconds = 2;
const LOOK_INTERVAL_SETTLED: Seconds = 10;
/// A holder that was not renewed for so long is replaced.
const LEASE_DURATION: Seconds = 15;
/// Calls in a second.
const CALLS_MAX: i64 = 12;
/// Passes in which something happens between a look at the objects and one at the brokers.
const ASKING_LATE_PER_MILLE: i64 = 200;

/// One of two processes.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// Above that of every operator before; nothing while another one holds the lease.
    pub(crate) epoch: Option<u64>,
    pub(crate) down_until: Seconds,
    pub(crate) paused_until: Seconds,
    look_at: Seconds,
    /// What was seen by the last pass that had nothing to do.
    idle: Option<(u64, Seconds)>,
    pass: Option<Pass>,
}

/// A reconciliation under way.
#[derive(Debug)]
pub(crate) enum Pass {
    /// Objects were read; the brokers are asked next.
    Observing(Box<Seen>, Seconds),
    Executing(Box<Execution>),
}

/// Objects as they were read.
#[derive(Debug)]
pub(crate) struct Seen {
    cluster: KafkaCluster,
    has_token: bool,
    observed: Observed,
    version: u64,
}

/// A plan, and what is left of it.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) cluster: KafkaCluster,
    pub(crate) plan: Plan,
    calls: VecDeque<Call>,
    /// What could be known when it was planned.
    pub(crate) known: Known,
    /// Whether objects and brokers were looked at in the same moment.
    pub(crate) at_once: bool,
    controller: Option<i32>,
    /// Of everything, when objects were read.
    version: u64,
    fails: bool,
}

/// The lease of the operators.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    pub(crate) holder: Option<usize>,
    renewed_at: Seconds,
    epochs: u64,
}

impl World {
    /// A second of both processes.
    pub(crate) fn step_operators(&mut self) {
        for index in 0..self.operators.len() {
            let operator = &self.operators[index];
            if operator.down_until > self.now || operator.paused_until > self.now {
                continue;
            }
            self.hold_lease(index);
            if self.operators[index].epoch.is_some() {
                self.reconcile(index);
            }
        }
    }

    fn hold_lease(&mut self, index: usize) {
        let api_fails = self.api_fails();
        let lease = &mut self.lease;
        if api_fails {
            return;
        }
        let is_mine = lease.holder == Some(index);
        let is_free = lease.holder.is_none() || self.now - lease.renewed_at >= LEASE_DURATION;
        if is_mine && self.operators[index].epoch.is_some() {
            lease.renewed_at = self.now;
        } else if is_mine || is_free {
            lease.holder = Some(index);
            lease.renewed_at = self.now;
            lease.epochs += 1;
            let epoch = lease.epochs;
            self.operators[index].begin(Some(epoch), self.now);
            self.note(format!("operator-{index}"), || {
                format!("holds the lease, epoch {epoch}")
            });
        } else if self.operators[index].epoch.is_some() {
            // A call may be on its way while a process that stood still learns that it is replaced.
            if matches!(self.operators[index].pass, Some(Pass::Executing(_))) {
                self.execute(index, 1);
            }
            self.note(format!("operator-{index}"), || "has lost the lease");
            self.operators[index].begin(None, self.now);
        }
    }

    fn reconcile(&mut self, index: usize) {
        match self.operators[index].pass.take() {
            None => self.observe(index),
            Some(Pass::Observing(seen, asks_at)) if asks_at <= self.now => {
                self.plan(index, *seen, false);
            }
            pass => {
                self.operators[index].pass = pass;
                let calls = self.random.range(1, CALLS_MAX);
                self.execute(index, calls);
            }
        }
    }

    fn observe(&mut self, index: usize) {
        let version = self.version();
        let operator = &self.operators[index];
        let is_new = operator
            .idle
            .is_none_or(|(seen, at)| seen != version || self.now - at >= LOOK_INTERVAL_SETTLED);
        if operator.look_at > self.now || !is_new {
            return;
        }
        if self.api_fails() {
            self.operators[index].look_at = self.now + self.random.range(1, 8);
            return;
        }
        let seen = Box::new(Seen {
            cluster: self.kubernetes.api.cluster.clone(),
            has_token: self.kubernetes.api.has_token,
            observed: self.observed(),
            version,
        });
        if self.random.chance(ASKING_LATE_PER_MILLE) {
            let asks_at = self.now + self.random.range(1, 4);
            self.operators[index].pass = Some(Pass::Observing(seen, asks_at));
        } else {
            self.plan(index, *seen, true);
        }
    }

    pub(crate) fn observed(&self) -> Observed {
        let api = &self.kubernetes.api;
        let name = crate::world::CLUSTER;
        Observed {
            nodes: self.nodes_seen.clone(),
            pods: api.pods.values().cloned().collect(),
            stateful_sets: api.stateful_sets.values().cloned().collect(),
            services: api.services.values().cloned().collect(),
            volumes: api.volumes.values().cloned().collect(),
            config_map: api.config_maps.get(&naming::config_map(name)).cloned(),
            network_policy: api
                .network_policies
                .get(&naming::network_policy(name))
                .cloned(),
            pod_disruption_budget: api
                .budgets
                .get(&naming::pod_disruption_budget(name))
                .cloned(),
            service_account: api.accounts.get(&naming::service_account(name)).cloned(),
            admin: Admin::Unreachable("nobody was asked".to_owned()),
            quorum: None,
            answers: Answers::default(),
            defaults: Defaults {
                image: "klamm:1".to_owned(),
                image_pull_policy: None,
                operator_pods: None,
            },
            fresh_cluster_id: format!("cluster-{}", self.now),
        }
    }

    fn plan(&mut self, index: usize, seen: Seen, at_once: bool) {
        let Seen {
            cluster,
            has_token,
            mut observed,
            version,
        } = seen;
        let now = clock::timestamp(self.now);
        if has_token {
            observed.admin = self.describe(&cluster);
            if observed.admin.confirmed().is_some() && !self.admin_fails() {
                observed.quorum = Some(self.brokers.describe_quorum());
            }
            while let Some(question) = question(&cluster, &observed, now) {
                self.answer(question, &mut observed.answers);
            }
        }
        let plan = plan(&cluster, &observed, now);
        let calls = calls(&plan, has_token);
        let controller = observed
            .admin
            .confirmed()
            .and_then(|facts| facts.controller_id);
        let known = Known::of(self);
        let execution = Execution {
            cluster,
            plan,
            calls,
            known,
            at_once,
            controller,
            version,
            fails: false,
        };
        self.operators[index].pass = Some(Pass::Executing(Box::new(execution)));
    }

    /// The active controller's answer, or what a majority of the recorded voters knows.
    fn describe(&mut self, cluster: &KafkaCluster) -> Admin {
        let recorded = cluster
            .status
            .as_ref()
            .map_or(&[][..], |status| &status.voters);
        let answering = recorded
            .iter()
            .filter(|id| self.brokers.is_recovered(**id))
            .count();
        if self.admin_fails() || answering == 0 {
            return Admin::Unreachable("no voter answers".to_owned());
        }
        let facts = self.brokers.describe();
        if facts.confirmed || answering * 2 > recorded.len() {
            return Admin::Answered(facts);
        }
        Admin::Unreachable("too few voters answer".to_owned())
    }

    fn answer(&mut self, question: Question, answers: &mut Answers) {
        let failed = || "time-out".to_owned();
        if !self.admin_fails() && self.brokers.controller.is_some() {
            self.brokers.answer(question, answers);
            return;
        }
        match question {
            Question::ValidateConfig(_) => answers.config = Some(ConfigVerdicts::Unknown(failed())),
            Question::CheckRestart(id) => {
                answers
                    .restarts
                    .insert(id, RestartVerdict::Unknown(failed()));
            }
            Question::DrainStatus(id) => {
                answers.drains.insert(id, DrainProgress::Unknown(failed()));
            }
            Question::RebalanceStatus => {
                answers.rebalance = Some(RebalanceProgress::Unknown(failed()));
            }
        }
    }

    /// Carries out so many calls.
    fn execute(&mut self, index: usize, calls: i64) {
        for _ in 0..calls {
            let Some(Pass::Executing(mut execution)) = self.operators[index].pass.take() else {
                return;
            };
            let Some(call) = execution.calls.pop_front() else {
                self.end_pass(index, &execution);
                return;
            };
            let epoch = self.operators[index].epoch.unwrap_or(0);
            self.check_call(&execution, &call);
            let is_admin = matches!(call, Call::Ask(_));
            let outcome = self.call(index, epoch, &mut execution, call);
            if is_admin && outcome.is_ok() {
                self.check_fencing(epoch);
            }
            if let Err(why) = outcome {
                self.note(format!("operator-{index}"), || format!("fails: {why}"));
                execution.fails = true;
                self.end_pass(index, &execution);
                return;
            }
            self.operators[index].pass = Some(Pass::Executing(execution));
            if self.dies_after_call() {
                self.note(format!("operator-{index}"), || "dies");
                self.crash_operator(index);
                return;
            }
        }
    }

    fn end_pass(&mut self, index: usize, execution: &Execution) {
        if !execution.fails {
            self.check_pass(execution);
        }
        let delay = if execution.fails {
            self.random.range(1, 8)
        } else if execution.plan.settled {
            LOOK_INTERVAL_SETTLED / 2
        } else {
            LOOK_INTERVAL_CHANGING
        };
        let idle = !execution.fails && is_idle(&execution.plan, &execution.cluster);
        let operator = &mut self.operators[index];
        operator.look_at = self.now + delay;
        operator.idle = idle.then_some((execution.version, self.now));
    }

    fn call(
        &mut self,
        index: usize,
        epoch: u64,
        execution: &mut Execution,
        call: Call,
    ) -> Result<(), &'static str> {
        let who = format!("operator-{index}");
        let is_admin = matches!(call, Call::Ask(_));
        if if is_admin {
            self.admin_fails()
        } else {
            self.api_fails()
        } {
            return Err("the call fails");
        }
        let now = self.now;
        match call {
            Call::Record(status) | Call::Report(status) => {
                if execution.cluster.status.as_ref() == Some(&status) {
                    return Ok(());
                }
                let api = &mut self.kubernetes.api;
                let written = api.replace_status(&execution.cluster, &status);
                execution.cluster = written.map_err(|_| "conflict")?;
                self.note_status(&who, &status);
            }
            Call::CreateToken => self.kubernetes.api.has_token = true,
            Call::Apply(object) => {
                self.note(&who, || format!("applies {}", name(&object)));
                self.kubernetes.api.apply(&object);
            }
            Call::DeleteVolume(volume) => {
                self.note(&who, || format!("deletes {}", volume.name));
                self.kubernetes.api.delete_volume(&volume, now);
            }
            Call::DeletePod { pod, .. } => {
                let deleted = self.kubernetes.api.delete_pod(&pod, now);
                let how = if deleted { "deletes" } else { "would delete" };
                self.note(&who, || format!("{how} {}", pod.name));
            }
            Call::DeleteStatefulSet(set) => {
                self.note(&who, || format!("deletes the StatefulSet {}", set.name));
                self.kubernetes.api.delete_stateful_set(&set);
            }
            Call::Ask(request) => {
                let up = execution
                    .controller
                    .filter(|id| self.brokers.is_recovered(*id));
                up.ok_or("the broker that was active controller is gone")?;
                self.note(&who, || format!("asks: {request:?}"));
                self.ask(epoch, &request)?;
            }
        }
        Ok(())
    }

    fn ask(&mut self, epoch: u64, request: &Request) -> Result<(), &'static str> {
        use crate::admin::Refusal;
        match self.brokers.change(epoch, request) {
            Ok(()) | Err(Refusal::Later) => {}
            Err(Refusal::Failed(why)) => return Err(why),
        }
        if self.admin_fails() {
            return Err("the answer is lost");
        }
        Ok(())
    }

    fn note_status(&mut self, who: &str, status: &KafkaClusterStatus) {
        let conditions = status.conditions.iter();
        let told = conditions.map(|told| format!("{}={} {}", told.type_, told.status, told.reason));
        let told: Vec<String> = told.collect();
        self.note(who, || format!("reports {}", told.join(", ")));
    }

    /// The process forgets everything and comes back.
    pub(crate) fn crash_operator(&mut self, index: usize) {
        self.operators[index].begin(None, self.now);
        self.operators[index].down_until = self.now + self.random.range(1, 20);
    }

    /// What reflectors have of nodes.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.kubernetes.api.nodes.values().cloned().collect()
    }
}

impl Operator {
    /// A process without memory.
    fn begin(&mut self, epoch: Option<u64>, now: Seconds) {
        *self = Self {
            epoch,
            down_until: self.down_until,
            paused_until: self.paused_until,
            look_at: now,
            idle: None,
            pass: None,
        };
    }
}
