//! This broker's life in the cluster: it registers, heartbeats to the active controller, and leaves
//! in order.

use std::sync::Arc;
use std::time::Duration;

use broker_core::controller::{Command, CommandError, Failure, RegisterBroker, Response};
use broker_core::{BrokerEpoch, BrokerId};
use klamm_proto::v1::{HeartbeatRequest, HeartbeatResponse, QuorumVoter};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::addresses::Addresses;
use super::error::known_controller;
use super::feed::Feed;
use super::peers::Peers;
use super::submit::Submitter;

const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// Between attempts to open a heartbeat stream.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(50);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// While the broker waits to be unfenced or to stop, the controller hears of it this often.
const IMPATIENT_INTERVAL: Duration = Duration::from_millis(50);
/// Heartbeats on their way; one that finds no room is left out.
const OUTGOING_MAX: usize = 4;

/// How far this broker has come, and what it wants.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Epoch of the registration; `None` before the first one.
    pub(crate) epoch: watch::Sender<Option<BrokerEpoch>>,
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
    pub(crate) feed: Arc<Feed>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) heartbeat_interval: Duration,
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
        loop {
            let epoch = self.register().await;
            self.membership.epoch.send_replace(Some(epoch));
            for attempt in 0.. {
                match self.heartbeat(epoch, attempt).await {
                    StreamEnd::Stale => break,
                    StreamEnd::Broken => sleep(RECONNECT_INTERVAL).await,
                }
            }
        }
    }

    async fn register(&self) -> BrokerEpoch {
        loop {
            let command = Command::RegisterBroker(self.command.clone());
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
        let (outgoing, requests) = mpsc::channel(OUTGOING_MAX);
        // The first heartbeat has to be under way before the controller answers the call.
        self.send(&outgoing, epoch);
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
        outgoing: mpsc::Sender<HeartbeatRequest>,
    ) -> StreamEnd {
        let mut regular = interval(self.heartbeat_interval);
        let mut impatient = interval(IMPATIENT_INTERVAL);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        impatient.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wants_shutdown = self.membership.wants_shutdown.subscribe();
        let mut fenced = true;
        loop {
            let waits = fenced || *wants_shutdown.borrow_and_update();
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        fenced = response.fenced;
                        self.learn_voters(response.voters);
                        self.membership.may_shutdown.send_replace(response.may_shutdown);
                    }
                    Ok(None) => return self.stream_end(&Status::unavailable("closed")),
                    Err(status) => return self.stream_end(&status),
                },
                Ok(()) = wants_shutdown.changed() => self.send(&outgoing, epoch),
                _ = regular.tick() => self.send(&outgoing, epoch),
                _ = impatient.tick(), if waits => self.send(&outgoing, epoch),
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

    fn send(&self, outgoing: &mpsc::Sender<HeartbeatRequest>, epoch: BrokerEpoch) {
        // A full channel means that the connection is stuck, which the controller notices.
        let _ = outgoing.try_send(HeartbeatRequest {
            broker_id: self.me.0,
            broker_epoch: epoch.0,
            metadata_offset: self.feed.position().offset,
            wants_shutdown: *self.membership.wants_shutdown.borrow(),
        });
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
