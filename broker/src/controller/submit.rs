//! The way of a command to the active controller: its mailbox when it runs here, gRPC otherwise.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use broker_core::BrokerId;
use broker_core::controller::{Command, Response};
use klamm_proto::v1::SubmitRequest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Request;

use super::error::{AttemptError, SubmitError};
use super::peers::Peers;

/// Commands that wait for the active controller; further ones wait for room.
pub(crate) const MAILBOX_COMMANDS_MAX: usize = 1024;
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

pub(crate) type Answer = Result<Response, AttemptError>;

/// A command in the mailbox.
pub(crate) struct Submission {
    pub(crate) command: Command,
    /// Dropped when the sender no longer waits.
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// See the module's documentation.
#[derive(Clone)]
pub(crate) struct Submitter {
    me: BrokerId,
    peers: Arc<Peers>,
    /// The mailbox of the controller task here.
    mailbox: mpsc::Sender<Submission>,
}

impl Submitter {
    pub(crate) fn new(me: BrokerId, peers: Arc<Peers>, mailbox: mpsc::Sender<Submission>) -> Self {
        Self { me, peers, mailbox }
    }

    /// Brings `command` to whichever broker is the active controller within `limit`.
    pub(crate) async fn submit(
        &self,
        command: Command,
        limit: Duration,
    ) -> Result<Response, SubmitError> {
        self.reach(limit, |target| self.attempt(target, &command))
            .await
    }

    /// Attempts something at whichever broker is the active controller until it takes it, within
    /// `limit`.
    pub(crate) async fn reach<T, F>(
        &self,
        limit: Duration,
        attempt_at: impl Fn(BrokerId) -> F,
    ) -> Result<T, SubmitError>
    where
        F: Future<Output = Result<T, AttemptError>>,
    {
        let deadline = Instant::now() + limit;
        let mut backoff = BACKOFF_MIN;
        for attempt in 0.. {
            let target = self.peers.candidate(attempt);
            let answer = match target {
                Some(target) => timeout_at(deadline, attempt_at(target)).await,
                None => Ok(Err(AttemptError::Unreachable)),
            };
            match answer {
                Ok(Ok(response)) => {
                    self.peers.set_hint(target);
                    return Ok(response);
                }
                Ok(Err(AttemptError::Final(error))) => return Err(error),
                Ok(Err(AttemptError::NotController(known))) => self.peers.set_hint(known),
                Ok(Err(AttemptError::Unreachable)) => self.peers.set_hint(None),
                Err(_) => return Err(SubmitError::OutcomeUnknown),
            }
            if Instant::now() + backoff >= deadline {
                break;
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.peers.controller_changed(target) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
        Err(SubmitError::NoController)
    }

    /// Submits to this broker only, for commands that others have forwarded.
    pub(crate) async fn submit_here(&self, command: Command) -> Answer {
        let not_controller = || AttemptError::NotController(self.peers.active_controller());
        let (reply, answer) = oneshot::channel();
        self.mailbox
            .send(Submission { command, reply })
            .await
            .map_err(|_| not_controller())?;
        answer
            .await
            .unwrap_or(Err(AttemptError::Final(SubmitError::OutcomeUnknown)))
    }

    async fn attempt(&self, target: BrokerId, command: &Command) -> Answer {
        if target == self.me {
            return self.submit_here(command.clone()).await;
        }
        let mut client = self.peers.client(target).ok_or(AttemptError::Unreachable)?;
        let request = Request::new(SubmitRequest {
            command: command.to_bytes().into(),
        });
        let response = client.submit(request).await?.into_inner();
        Response::from_bytes(&response.response)
            .map_err(|error| AttemptError::Final(SubmitError::Malformed(error.to_string())))
    }
}
