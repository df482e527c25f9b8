//! One client connection: three loops in one task.
//!
//! * *reading* cuts frames, a few ahead of what is served, and so notices a client that is gone;
//! * *serving* takes them in order. A Produce request is appended and takes one of the slots in
//!   flight; any other request takes all of them, so that it is served after the answers to
//!   everything before it, and at most one answer of any size waits to be sent;
//! * *sending* writes the answers in the order of the requests, those together that are ready
//!   together.
//!
//! A client that is over its quota gets its answer, and is not listened to for a while (KIP-219).
//!
//! Invariants: requests take effect in the order of arrival and are answered in that order; no more
//! than [`IN_FLIGHT_MAX`] are unanswered.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use broker_wire::ErrorCode;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::frame_reader::{Frame, FrameReader, ReadError};
use super::listener::Server;
use super::sender::Sender;
use super::stream::Stream;
use crate::api::{Call, Peer, ProduceAnswer, Produced, Reply, RequestError};

/// Requests of a connection that were taken up and not answered.
const IN_FLIGHT_MAX: u32 = 64;
/// Frames read ahead of the one being served.
const FRAMES_AHEAD_MAX: usize = 1;
/// When nothing more is read, what was read before has this long to be served.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug, Error)]
enum Ending {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("a request with acks=0 failed: {0:?}")]
    Unacknowledged(ErrorCode),
    #[error("the answer could not be sent: {0}")]
    Send(#[from] io::Error),
    #[error("the broker stops")]
    Stopped,
}

/// An answer, or what will be one, with the slots it occupies until it is sent.
struct Answer {
    kind: AnswerKind,
    _slots: OwnedSemaphorePermit,
}

enum AnswerKind {
    Ready(Reply),
    Produced(Box<Produced>),
}

/// Serves the connection until it ends.
pub(super) async fn serve(
    server: &Server,
    stream: &Stream,
    peer: &Peer,
    stopped: &CancellationToken,
) {
    let ending = Box::pin(run(server, stream, peer, stopped)).await;
    stream.close();
    let metrics = &server.metrics;
    let suspicious = match &ending {
        Ending::Stopped | Ending::Unacknowledged(_) | Ending::Read(ReadError::Closed) => false,
        Ending::Read(ReadError::Idle(_) | ReadError::Stalled) => {
            metrics.timed_out.add(1);
            false
        }
        Ending::Send(error) if error.kind() == io::ErrorKind::TimedOut => {
            metrics.timed_out.add(1);
            false
        }
        Ending::Read(ReadError::Io(_)) | Ending::Send(_) => {
            metrics.io_errors.add(1);
            false
        }
        Ending::Request(RequestError::UnsupportedVersion { .. }) => {
            metrics.unsupported_requests.add(1);
            true
        }
        Ending::Read(ReadError::Tls) => {
            metrics.wrong_protocol.add(1);
            true
        }
        Ending::Read(ReadError::Frame(_)) | Ending::Request(_) => {
            metrics.malformed_requests.add(1);
            true
        }
    };
    match suspicious.then(|| server.warnings.admit()).flatten() {
        Some(suppressed) => {
            tracing::warn!(%peer.host, %peer.listener, reason = %ending, suppressed, "connection closed");
        }
        None => tracing::debug!(%peer.host, %peer.listener, reason = %ending, "connection closed"),
    }
}

async fn run(server: &Server, stream: &Stream, peer: &Peer, stopped: &CancellationToken) -> Ending {
    let (frames, received) = mpsc::channel(FRAMES_AHEAD_MAX);
    let (answers, answered) = mpsc::channel(IN_FLIGHT_MAX as usize);
    let reading = async {
        tokio::select! {
            ending = read_frames(server, stream, frames) => ending,
            () = stopped.cancelled() => Ending::Stopped,
        }
    };
    let serving = async {
        let serving = serve_frames(server, peer, received, answers, stopped);
        let sending = send_answers(server, stream, answered);
        tokio::pin!(serving, sending);
        tokio::select! {
            sent = &mut sending => sent.err(),
            // What was served before the end is still answered.
            served = &mut serving => sending.await.err().or_else(|| served.err()),
        }
    };
    tokio::pin!(reading, serving);
    tokio::select! {
        ended = &mut serving => ended.unwrap_or(Ending::Stopped),
        ending = &mut reading => match timeout(DRAIN_TIMEOUT, serving).await {
            Ok(Some(failed)) => failed,
            Ok(None) | Err(_) => ending,
        },
    }
}

async fn read_frames(server: &Server, stream: &Stream, frames: mpsc::Sender<Frame>) -> Ending {
    let mut reader = FrameReader::new(stream, &server.limits, &server.memory, &server.metrics);
    loop {
        match reader.next().await {
            Ok(frame) => {
                if frames.send(frame).await.is_err() {
                    return Ending::Stopped;
                }
            }
            Err(error) => return error.into(),
        }
    }
}

async fn serve_frames(
    server: &Server,
    peer: &Peer,
    mut frames: mpsc::Receiver<Frame>,
    answers: mpsc::Sender<Answer>,
    stopped: &CancellationToken,
) -> Result<(), Ending> {
    let slots = Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize));
    let take = async |count| {
        let slots = Arc::clone(&slots).acquire_many_owned(count).await;
        slots.expect("slots are never closed")
    };
    while let Some(Frame { bytes, reservation }) = frames.recv().await {
        server.metrics.requests.add(1);
        let (kind, throttle, slots) = match Call::decode(peer, bytes)? {
            Call::Produce(mut call) => {
                let slots = take(1).await;
                if call.is_transactional() {
                    Box::pin(call.verify(&server.context)).await;
                }
                let produced = call.append(&server.context);
                let throttle = produced.throttle();
                (AnswerKind::Produced(Box::new(produced)), throttle, slots)
            }
            Call::Query(query) => {
                let slots = take(IN_FLIGHT_MAX).await;
                let reply = query.answer(&server.context).await;
                let throttle = reply.throttle;
                (AnswerKind::Ready(reply), throttle, slots)
            }
        };
        drop(reservation);
        if answers
            .send(Answer {
                kind,
                _slots: slots,
            })
            .await
            .is_err()
        {
            return Ok(());
        }
        if !throttle.is_zero() {
            server.metrics.throttled_requests.add(1);
            tokio::select! {
                () = sleep(throttle) => {}
                () = stopped.cancelled() => return Err(Ending::Stopped),
            }
        }
    }
    Ok(())
}

async fn send_answers(
    server: &Server,
    stream: &Stream,
    mut answers: mpsc::Receiver<Answer>,
) -> Result<(), Ending> {
    let mut sender = Sender::new(stream, &server.limits, &server.metrics);
    while let Some(Answer { kind, _slots }) = next_answer(&mut answers, &mut sender).await? {
        let reply = match kind {
            AnswerKind::Ready(reply) => reply,
            AnswerKind::Produced(produced) => {
                let mut answer = pin!(produced.answer(&server.context));
                let answer = match futures::poll!(answer.as_mut()) {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => {
                        sender.flush().await?;
                        answer.await
                    }
                };
                match answer {
                    ProduceAnswer::Reply(reply) => reply,
                    ProduceAnswer::Nothing => continue,
                    ProduceAnswer::Close(code) => {
                        sender.flush().await?;
                        return Err(Ending::Unacknowledged(code));
                    }
                }
            }
        };
        sender.send(&reply).await?;
    }
    Ok(())
}

/// Nothing that was collected waits for an answer that is not there yet.
async fn next_answer(
    answers: &mut mpsc::Receiver<Answer>,
    sender: &mut Sender<'_>,
) -> io::Result<Option<Answer>> {
    if let Ok(answer) = answers.try_recv() {
        return Ok(Some(answer));
    }
    sender.flush().await?;
    Ok(answers.recv().await)
}
