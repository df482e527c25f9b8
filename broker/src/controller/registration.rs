//! This broker's life in the cluster: it registers, heartbeats to the active controller, and leaves
//! in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker_core::controller::{Command, CommandError, Failure, RegisterBroker, Response};
use broker_core::lease::Lease;
use broker_core::{BrokerEpoch, BrokerId, Time};
use klamm_proto::v1::{HeartbeatRequest, HeartbeatResponse, QuorumVoter};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status, Streaming};

use super::addresses::Addresses;
use super::confirmations::Confirmations;
use super::error::known_controller;
use super::peers::Peers;
use super::submit::Submitter;
use crate::clock;
use crate::previous_run::Kept;

const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a full disk is tried again.
const KEEP_RETRY_INTERVAL: Duration = Duration::from_secs(1);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Between attempts to open a heartbeat stream.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// While the broker waits to be unfenced or to stop, the controller hears of it this often.
const IMPATIENT_INTERVAL: Duration = Duration::from_millis(50);
const LEASE_EXTENSION_INTERVAL: Duration = Duration::from_millis(100);
/// Heartbeats on their way.
const OUTGOING_MAX: usize = 4;
/// Heartbeats without an answer; with so many the controller is not there.
const UNANSWERED_MAX: usize = 64;

/// How far this broker has come, and what it wants.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Epoch of the registration; `None` before the first one.
    pub(crate) epoch: watch::Sender<Option<BrokerEpoch>>,
    /// Metadata offset up to which this broker has done what the metadata asks of it.
    pub(crate) applied: watch::Sender<Option<u64>>,
    pub(crate) confirmations: Confirmations,
    /// Asks for the leaders to be moved away.
    pub(crate) wants_shutdown: watch::Sender<bool>,
    /// The active controller has moved the leaders away.
    pub(crate) may_shutdown: watch::Sender<bool>,
}

/// See the module's documentation.
pub(crate) struct Registration {
    pub(crate) me: BrokerId,
    pub(crate) command: RegisterBroker,
    pub(crate) submitter: Submitter,
    pub(crate) peers: Arc<Peers>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) membership: Arc<Membership>,
    /// Size of this broker's logs.
    pub(crate) hosted_bytes: Arc<AtomicU64>,
    /// Writes a registration down; may block.
    pub(crate) keep: Arc<dyn Fn(BrokerEpoch) -> Kept + Send + Sync>,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) lease: Arc<Lease>,
    /// How long an accepted heartbeat lets this broker lead.
    pub(crate) lease_duration: Duration,
}

/// Heartbeats on their way to one controller. Each is answered, in order.
struct Outgoing {
    requests: mpsc::Sender<HeartbeatRequest>,
    /// Those without an answer.
    sent: VecDeque<Sent>,
    /// Accepted ones; this broker has yet to apply metadata that the controller had, up to an offset.
    behind: VecDeque<(Option<u64>, Sent)>,
}

/// A heartbeat.
#[derive(Clone, Copy)]
struct Sent {
    at: Time,
    /// Last of the [`Confirmations`] that were asked for before.
    confirms: u64,
}

/// Why a heartbeat stream ended.
enum StreamEnd {
    /// The controller does not know this registration.
    Stale,
    /// Open another one, to the controller that [`Peers`] knows by now.
    Broken,
}

impl Registration {
    /// Runs for as long as the broker is part of the cluster.
    pub(crate) async fn run(self) {
        tokio::join!(self.keep_lease(), self.keep_registered());
    }

    async fn keep_lease(&self) {
        let mut extension = interval(LEASE_EXTENSION_INTERVAL);
        extension.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            extension.tick().await;
            self.lease.extend(clock::now(), self.lease_duration);
        }
    }

    async fn keep_registered(&self) {
        loop {
            let epoch = self.register().await;
            let _writing = self.write_down(epoch).await;
            self.membership.epoch.send_replace(Some(epoch));
            for attempt in 0.. {
                match self.heartbeat(epoch, attempt).await {
                    StreamEnd::Stale => {
                        self.lease.end();
                        break;
                    }
                    StreamEnd::Broken => sleep(RECONNECT_INTERVAL).await,
                }
            }
        }
    }

    /// A disk that hangs or is full keeps the broker from the cluster for a limited time only: others
    /// may do. It is tried again until the returned task is dropped: a registration that is not on
    /// disk when power is lost makes the disks look like those of another broker.
    async fn write_down(&self, epoch: BrokerEpoch) -> AbortOnDropHandle<()> {
        let keep = Arc::clone(&self.keep);
        let (tried, mut first) = watch::channel(Kept::NoSpace);
        let writing = tokio::spawn(async move {
            let attempt = || {
                let keep = Arc::clone(&keep);
                tokio::task::spawn_blocking(move || keep(epoch))
            };
            while let Ok(Kept::NoSpace) = attempt().await {
                tried.send_replace(Kept::NoSpace);
                sleep(KEEP_RETRY_INTERVAL).await;
            }
            tried.send_replace(Kept::Settled);
        });
        let writing = AbortOnDropHandle::new(writing);
        let settled = timeout(KEEP_TIMEOUT, first.changed()).await.is_ok()
            && *first.borrow() == Kept::Settled;
        if !settled {
            tracing::warn!(%epoch, "the registration is not on disk yet; going on without");
        }
        writing
    }

    async fn register(&self) -> BrokerEpoch {
        loop {
            let command = Command::RegisterBroker(Box::new(self.command.clone()));
            match self.submitter.submit(command, REGISTER_TIMEOUT).await {
                Ok(Response::RegisterBroker(registered)) => {
                    tracing::info!(epoch = registered.broker_epoch, "registered");
                    return BrokerEpoch(registered.broker_epoch);
                }
                Ok(Response::Failed(failure)) => log_refusal(&failure),
                Ok(response) => tracing::warn!(?response, "unexpected answer to a registration"),
                Err(error) => tracing::info!(%error, "not registered yet"),
            }
            sleep(RETRY_INTERVAL).await;
        }
    }

    async fn heartbeat(&self, epoch: BrokerEpoch, attempt: usize) -> StreamEnd {
        let Some(controller) = self.peers.candidate(attempt) else {
            return StreamEnd::Broken;
        };
        let Some(mut client) = self.peers.client(controller) else {
            return StreamEnd::Broken;
        };
        let (sender, requests) = mpsc::channel(OUTGOING_MAX);
        let mut outgoing = Outgoing {
            requests: sender,
            sent: VecDeque::new(),
            behind: VecDeque::new(),
        };
        // The first heartbeat has to be under way before the controller answers the call.
        self.send(&mut outgoing, epoch);
        let call = client.heartbeat(ReceiverStream::new(requests));
        match timeout(CONNECT_TIMEOUT, call).await {
            Ok(Ok(stream)) => {
                self.peers.set_hint(Some(controller));
                self.keep_stream(epoch, controller, stream.into_inner(), outgoing)
                    .await
            }
            Ok(Err(status)) => self.stream_end(&status),
            Err(_) => {
                self.peers.set_hint(None);
                StreamEnd::Broken
            }
        }
    }

    async fn keep_stream(
        &self,
        epoch: BrokerEpoch,
        controller: BrokerId,
        mut responses: Streaming<HeartbeatResponse>,
        mut outgoing: Outgoing,
    ) -> StreamEnd {
        let mut regular = interval(self.heartbeat_interval);
        let mut impatient = interval(IMPATIENT_INTERVAL);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        impatient.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wants_shutdown = self.membership.wants_shutdown.subscribe();
        let mut applied = self.membership.applied.subscribe();
        let mut asked = self.membership.confirmations.asked();
        let mut fenced = true;
        loop {
            let waits = fenced || *wants_shutdown.borrow_and_update();
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        fenced = response.fenced;
                        self.renew_lease(&mut outgoing, &response);
                        self.confirm(&mut outgoing.behind);
                        self.learn_voters(response.voters);
                        self.membership.may_shutdown.send_replace(response.may_shutdown);
                    }
                    Ok(None) => return self.stream_end(&Status::unavailable("closed")),
                    Err(status) => return self.stream_end(&status),
                },
                Ok(()) = wants_shutdown.changed() => self.send(&mut outgoing, epoch),
                Ok(()) = applied.changed() => self.confirm(&mut outgoing.behind),
                // Whoever asks while one is under way shares the next one.
                Ok(()) = asked.changed(), if outgoing.sent.is_empty() => {
                    self.send(&mut outgoing, epoch);
                }
                _ = regular.tick() => self.send(&mut outgoing, epoch),
                _ = impatient.tick(), if waits => self.send(&mut outgoing, epoch),
                () = self.peers.controller_changed(Some(controller)) => return StreamEnd::Broken,
            }
        }
    }

    /// A member of the quorum hears of them from there, too.
    fn learn_voters(&self, voters: Vec<QuorumVoter>) {
        let voters = voters.into_iter();
        let voters = voters.map(|voter| (BrokerId(voter.broker_id), voter.address));
        self.addresses.learn(voters.collect());
    }

    fn send(&self, outgoing: &mut Outgoing, epoch: BrokerEpoch) {
        let sent = Sent {
            at: clock::now(),
            confirms: self.membership.confirmations.last_asked(),
        };
        let request = HeartbeatRequest {
            broker_id: self.me.0,
            broker_epoch: epoch.0,
            metadata_offset: *self.membership.applied.borrow(),
            wants_shutdown: *self.membership.wants_shutdown.borrow(),
            hosted_bytes: self.hosted_bytes.load(Ordering::Relaxed),
        };
        // One that finds no room is left out: the next one says the same.
        if outgoing.sent.len() < UNANSWERED_MAX && outgoing.requests.try_send(request).is_ok() {
            outgoing.sent.push_back(sent);
        }
    }

    fn renew_lease(&self, outgoing: &mut Outgoing, response: &HeartbeatResponse) {
        let sent = outgoing.sent.pop_front();
        if response.fenced {
            self.lease.end();
            outgoing.behind.clear();
        } else if let Some(sent) = sent {
            self.lease.accept_behind(sent.at, self.lease_duration);
            // The oldest is the one to come true first.
            outgoing.behind.truncate(UNANSWERED_MAX - 1);
            outgoing.behind.push_back((response.metadata_offset, sent));
        }
    }

    /// Takes the answers into account whose metadata this broker has applied by now.
    fn confirm(&self, behind: &mut VecDeque<(Option<u64>, Sent)>) {
        let applied = *self.membership.applied.borrow();
        let mut newest = None;
        while let Some((_, sent)) = behind.pop_front_if(|(offset, _)| *offset <= applied) {
            newest = Some(sent);
        }
        if let Some(sent) = newest {
            self.lease.accept(sent.at, self.lease_duration);
            self.membership.confirmations.confirm(sent.confirms);
        }
    }

    fn stream_end(&self, status: &Status) -> StreamEnd {
        match status.code() {
            Code::NotFound => return StreamEnd::Stale,
            Code::FailedPrecondition => self.peers.set_hint(known_controller(status)),
            _ => self.peers.set_hint(None),
        }
        StreamEnd::Broken
    }
}

fn log_refusal(failure: &Failure) {
    if failure.error() == CommandError::DuplicateBrokerId {
        tracing::info!(
            reason = failure.message,
            "waiting for the broker's previous run to end"
        );
    } else {
        tracing::error!(reason = failure.message, "the cluster refuses this broker");
    }
}
