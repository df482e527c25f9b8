//! The active controller: one task that decides commands in order and proposes their records.
//!
//! It runs on every broker and waits for that to lead the quorum.
//!
//! Invariants:
//! * A decision sees every record that may be committed before its own: a term begins with an
//!   empty batch that must be applied here, and the next batch is decided after the last one is.
//! * A command is answered once its records are applied here.
//! * No other command comes between the decisions of one that takes several.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::controller::{
    Absences, CommandError, ELECTIONS_PER_COMMAND_MAX, decide, initial_features,
    plan_missing_elections, plan_preferred_elections, plan_replacements,
};
use broker_core::controller::{Command, Context, Decision, Failure, InitializeCluster, Response};
use broker_core::metadata::{Image, Record};
use broker_core::{BrokerId, TopicId, TopicPartition};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::block_in_place;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep};

use super::addresses::Addresses;
use super::error::{AttemptError, SubmitError};
use super::evacuations::Evacuations;
use super::feed::{Feed, Position};
use super::leases::Leases;
use super::options::DecisionPolicy;
use super::probes::Probes;
use super::raft::{Leadership, ProposeError, Quorum};
use super::rebalancing::Rebalancing;
use super::sessions::Sessions;
use super::submit::{Answer, Submission};
use crate::clock;

/// Commands that are decided together and share one entry of the log.
const BATCH_COMMANDS_MAX: usize = 256;
/// A batch is closed once its records have this many bytes.
const BATCH_BYTES: usize = 1024 * 1024;
/// Records of one command; more than the quorum's messages carry are refused.
const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often broker sessions are looked at.
const SESSION_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// How often replicas of evacuated and of dead brokers go on moving to others, and those of a
/// rebalance.
const MOVE_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// See the module's documentation.
pub(crate) struct ControllerTask {
    pub(crate) me: BrokerId,
    pub(crate) cluster_id: String,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) evacuations: Arc<Evacuations>,
    pub(crate) rebalancing: Arc<Rebalancing>,
    pub(crate) policy: DecisionPolicy,
    pub(crate) leader_rebalance_interval: Option<Duration>,
    pub(crate) mailbox: mpsc::Receiver<Submission>,
    /// Leaders elected here that may lack acknowledged records.
    pub(crate) unclean_elections: Arc<AtomicU64>,
}

/// Commands decided on one image, and the image they lead to.
struct Batch {
    image: Image,
    records: Vec<Bytes>,
    bytes: usize,
    unclean_elections: Vec<(TopicPartition, BrokerId)>,
    answers: Vec<(oneshot::Sender<Answer>, Response)>,
}

/// The term is over, or the quorum has stopped.
struct Deposed;

impl ControllerTask {
    /// Runs until the mailbox is closed.
    pub(crate) async fn run(mut self) {
        let mut leadership = self.quorum.leadership();
        while !self.mailbox.is_closed() && self.wait_for_leadership(&mut leadership).await.is_some()
        {
            let leading = *leadership.borrow_and_update();
            if self.quorum.propose(leading.term, Vec::new()).await.is_ok() {
                tracing::info!(term = leading.term, "this broker is the active controller");
                let Deposed = self.lead(leading, &mut leadership).await;
                self.sessions.end();
                self.evacuations.end();
                self.rebalancing.end();
                tracing::info!(
                    term = leading.term,
                    "this broker is no longer the controller"
                );
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    /// Refuses commands until this voter leads; `None` when the mailbox is closed.
    async fn wait_for_leadership(&mut self, now: &mut watch::Receiver<Leadership>) -> Option<()> {
        loop {
            let known = now.borrow_and_update().broker();
            if known == Some(self.me) {
                return Some(());
            }
            tokio::select! {
                changed = now.changed() => changed.ok()?,
                submission = self.mailbox.recv() => {
                    // The sender may have given up; then nobody needs the answer.
                    let _ = submission?.reply.send(Err(AttemptError::NotController(known)));
                }
            }
        }
    }

    async fn lead(
        &mut self,
        leading: Leadership,
        leadership: &mut watch::Receiver<Leadership>,
    ) -> Deposed {
        let initialize = Command::InitializeCluster(InitializeCluster {
            cluster_id: self.cluster_id.clone(),
            features: initial_features(),
        });
        if let Err(deposed) = self.decide_own(leading.term, vec![initialize]).await {
            return deposed;
        }
        let left_over = plan_missing_elections(&self.feed.position().image);
        if let Err(deposed) = self.decide_own(leading.term, left_over).await {
            return deposed;
        }
        let voters = self.quorum.members().borrow().voter_ids();
        self.sessions.begin(&self.feed.position(), voters);
        let mut leases = Leases::default();
        let mut session_check = interval(SESSION_CHECK_INTERVAL);
        session_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut probes = Probes::default();
        let mut absences = Absences::default();
        let mut move_check = interval(MOVE_INTERVAL);
        move_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rebalance_interval = self.leader_rebalance_interval;
        // Polled only when there is an interval; the fallback keeps the arm's type.
        let period = rebalance_interval.unwrap_or(Duration::from_secs(3600));
        let mut rebalance = interval_at(Instant::now() + period, period);
        loop {
            let outcome = tokio::select! {
                () = leading.ended(leadership) => Err(Deposed),
                _ = session_check.tick() => {
                    self.dial_unheard(&mut probes);
                    let lapsed = leases.tick(clock::now(), &self.feed.position().image);
                    self.decide_sessions(leading.term, lapsed).await
                }
                () = self.sessions.lost() => {
                    self.dial_unheard(&mut probes);
                    Ok(())
                }
                ended = probes.ended() => {
                    self.sessions.ended(ended);
                    self.decide_sessions(leading.term, Vec::new()).await
                }
                _ = move_check.tick() => {
                    // A rebalance of many partitions takes long to plan.
                    let commands = block_in_place(|| self.plan_moves(&mut absences));
                    self.decide_own(leading.term, commands).await
                }
                _ = rebalance.tick(), if rebalance_interval.is_some() => {
                    let command = plan_preferred_elections(&self.feed.position().image);
                    if command.as_ref().is_some_and(may_leave_some) {
                        rebalance.reset_immediately();
                    }
                    self.decide_own(leading.term, command.into_iter().collect()).await
                }
                submission = self.mailbox.recv() => match submission {
                    Some(submission) => self.decide_submitted(leading.term, submission).await,
                    None => Err(Deposed),
                },
            };
            if let Err(deposed) = outcome {
                return deposed;
            }
        }
    }

    /// Evacuations first, and a rebalance last: they may want to move the same partition.
    fn plan_moves(&self, absences: &mut Absences) -> Vec<Command> {
        let image = self.feed.position().image;
        let now = (clock::now(), clock::timestamp());
        let choose = &self.policy.choose_broker;
        let evacuation = self.evacuations.tick(now.1, &image, choose);
        let dead = match self.policy.replacement_delay {
            Some(delay) => absences.tick(now.0, &image, delay),
            None => BTreeSet::new(),
        };
        let necessary = evacuation.or_else(|| {
            let command = plan_replacements(&image, &dead, choose);
            if let Some(Command::AlterReassignments(moves)) = &command {
                let partitions = moves.partitions.len();
                tracing::info!(?dead, partitions, "replacing replicas of dead brokers");
            }
            command
        });
        match necessary {
            Some(command) => vec![command],
            None => (self.rebalancing).tick(now, &image, &self.policy.plan_rebalance),
        }
    }

    fn dial_unheard(&self, probes: &mut Probes) {
        for broker in self.sessions.unheard() {
            if broker.id != self.me
                && let Some(address) = self.addresses.address(broker.id)
            {
                probes.dial(broker, address);
            }
        }
    }

    /// Fences, unfences and drains brokers by what is heard of them, and decides `more`.
    async fn decide_sessions(&mut self, term: u64, more: Vec<Command>) -> Result<(), Deposed> {
        let mut commands = self.sessions.tick(&self.feed.position());
        commands.extend(more);
        self.decide_own(term, commands).await
    }

    /// Decides the controller's own commands. A refusal means that the cluster has moved on.
    async fn decide_own(&mut self, term: u64, commands: Vec<Command>) -> Result<(), Deposed> {
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            let mut batch = Batch::new(&self.feed.position());
            while let Some(command) = commands.peek()
                && batch.bytes < BATCH_BYTES
            {
                let Some(response) = batch.decide(&self.policy, command) else {
                    break;
                };
                if let Response::Failed(failure) = response {
                    tracing::warn!(reason = failure.message, ?command, "own command refused");
                }
                commands.next();
            }
            self.commit(term, batch).await?;
        }
        Ok(())
    }

    /// Decides `first` and whatever else is in the mailbox by now.
    async fn decide_submitted(&mut self, term: u64, first: Submission) -> Result<(), Deposed> {
        let mut next = Some(first);
        while let Some(first) = next {
            let mut batch = Batch::new(&self.feed.position());
            next = self.decide_waiting(&mut batch, first);
            self.commit(term, batch).await?;
        }
        Ok(())
    }

    /// Fills `batch`, and returns what has to be decided again after it.
    fn decide_waiting(&mut self, batch: &mut Batch, first: Submission) -> Option<Submission> {
        let mut next = Some(first);
        for _ in 0..BATCH_COMMANDS_MAX {
            let submission = next?;
            if !submission.reply.is_closed() {
                let Some(response) = batch.decide(&self.policy, &submission.command) else {
                    return Some(submission);
                };
                batch.answers.push((submission.reply, response));
            }
            if batch.bytes >= BATCH_BYTES {
                break;
            }
            next = self.mailbox.try_recv().ok();
        }
        None
    }

    async fn commit(&mut self, term: u64, batch: Batch) -> Result<(), Deposed> {
        batch.report_unclean_elections(&self.unclean_elections);
        let outcome = if batch.records.is_empty() {
            Ok(())
        } else {
            self.quorum
                .propose(term, batch.records)
                .await
                .map(|_offset| ())
        };
        // Brokers heartbeat as soon as they have the answer to their registration.
        self.sessions.follow(&self.feed.position());
        let leader = self
            .quorum
            .leadership()
            .borrow()
            .broker()
            .filter(|id| *id != self.me);
        for (reply, response) in batch.answers {
            // The sender may have given up; then nobody needs the answer.
            let _ = reply.send(match &outcome {
                Ok(()) => Ok(response),
                Err(ProposeError::NotLeader) => Err(AttemptError::NotController(leader)),
                Err(_) => Err(AttemptError::Final(SubmitError::OutcomeUnknown)),
            });
        }
        outcome.map_err(|_| Deposed)
    }
}

/// Whether more elections may be wanted than the command asks for; the next one needn't wait.
fn may_leave_some(elections: &Command) -> bool {
    matches!(elections, Command::ElectLeaders(c) if c.partitions.len() >= ELECTIONS_PER_COMMAND_MAX)
}

impl Batch {
    fn new(position: &Position) -> Self {
        Self {
            image: Image::clone(&position.image),
            records: Vec::new(),
            bytes: 0,
            unclean_elections: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Decides `command` on the image after the commands before it; `None` when it has to be decided
    /// again after this batch.
    fn decide(&mut self, policy: &DecisionPolicy, command: &Command) -> Option<Response> {
        let mut context = Context {
            defaults: policy.defaults,
            new_topic_id: &mut || TopicId(uuid::Uuid::new_v4().into_bytes()),
            place: &*policy.place,
            config_table: &*policy.config_table,
        };
        let Decision {
            records,
            response,
            unfinished,
            unclean_elections,
        } = decide(&self.image, &mut context, command);
        let encoded: Vec<Bytes> = records
            .iter()
            .map(|record| record.to_bytes().into())
            .collect();
        let bytes: usize = encoded.iter().map(Bytes::len).sum();
        if bytes > COMMAND_BYTES_MAX {
            let reason = "the command changes too much at once; split it";
            let failure = Failure::new(CommandError::LimitExceeded, reason);
            return Some(Response::Failed(failure));
        }
        self.apply(&records);
        self.records.extend(encoded);
        self.bytes += bytes;
        self.unclean_elections.extend(unclean_elections);
        (!unfinished).then_some(response)
    }

    /// Tells of leaders that may lack acknowledged records.
    fn report_unclean_elections(&self, count: &AtomicU64) {
        for (partition, leader) in &self.unclean_elections {
            let topic = self.image.topics.get(&partition.topic);
            tracing::warn!(
                topic = topic.map_or("", |topic| &topic.name), index = %partition.partition, %leader,
                "unclean leader election: acknowledged records may be given up"
            );
        }
        count.fetch_add(self.unclean_elections.len() as u64, Ordering::Relaxed);
    }

    fn apply(&mut self, records: &[Record]) {
        for record in records {
            let applied = self.image.apply(record);
            applied.expect("a decision's records apply to the image it was decided on");
        }
    }
}
