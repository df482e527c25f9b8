//! Serves `klamm.v1.Controller`: heartbeats and commands on the active controller, committed
//! metadata on every broker that has it.

use std::pin::Pin;
use std::sync::Arc;

use broker_core::controller::Command;
use broker_core::liveness::{Heartbeat, StreamId};
use broker_core::metadata::Image;
use broker_core::{BrokerEpoch, BrokerId};
use bytes::Bytes;
use futures::Stream;
use klamm_proto::v1::controller_server;
use klamm_proto::v1::follow_response::Event;
use klamm_proto::v1::{
    ChangeVotersRequest, ChangeVotersResponse, DescribeQuorumRequest, FollowRequest,
    FollowResponse, HeartbeatRequest, HeartbeatResponse, MetadataBatch, MetadataSnapshot,
    QuorumDescription, QuorumVoter, SubmitRequest, SubmitResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::{AttemptError, SubmitError, not_controller};
use super::feed::{Feed, Missing, Position};
use super::peers::Peers;
use super::raft::Quorum;
use super::sessions::{HeartbeatError, Sessions};
use super::submit::Submitter;
use super::voters::VoterAdmin;

/// Messages on their way to one broker.
const OUTGOING_MAX: usize = 16;
/// Bytes of records in one message of a snapshot, exceeded by at most one record.
const SNAPSHOT_PIECE_BYTES: usize = 1024 * 1024;

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The gRPC service `klamm.v1.Controller`.
#[derive(Clone)]
pub struct ControllerService {
    pub(crate) me: BrokerId,
    pub(crate) feed: Arc<Feed>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) submitter: Submitter,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) voters: VoterAdmin,
    pub(crate) cluster_id: Arc<str>,
}

#[tonic::async_trait]
impl controller_server::Controller for ControllerService {
    type HeartbeatStream = BoxStream<HeartbeatResponse>;
    type FollowStream = BoxStream<FollowResponse>;

    async fn heartbeat(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        self.check_active()?;
        let (outgoing, responses) = mpsc::channel(OUTGOING_MAX);
        let stream = HeartbeatStream {
            id: self.sessions.open_stream(),
            service: self.clone(),
            broker: None,
        };
        tokio::spawn(stream.serve(request.into_inner(), outgoing));
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }

    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let command = Command::from_bytes(&request.into_inner().command)
            .map_err(|error| AttemptError::Final(SubmitError::Malformed(error.to_string())))?;
        let response = self.submitter.submit_here(command).await?;
        Ok(Response::new(SubmitResponse {
            response: response.to_bytes().into(),
        }))
    }

    async fn follow(
        &self,
        request: Request<FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        if *request.cluster_id != *self.cluster_id {
            return Err(Status::invalid_argument(format!(
                "this is a broker of cluster {:?}, not {:?}",
                self.cluster_id, request.cluster_id
            )));
        }
        let (outgoing, events) = mpsc::channel(OUTGOING_MAX);
        tokio::spawn(self.clone().serve_follower(request.from_offset, outgoing));
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }

    async fn change_voters(
        &self,
        request: Request<ChangeVotersRequest>,
    ) -> Result<Response<ChangeVotersResponse>, Status> {
        let response = self.voters.change_here(&request.into_inner()).await?;
        Ok(Response::new(response))
    }

    async fn describe_quorum(
        &self,
        _: Request<DescribeQuorumRequest>,
    ) -> Result<Response<QuorumDescription>, Status> {
        Ok(Response::new(self.voters.describe_here()?))
    }
}

impl ControllerService {
    fn check_active(&self) -> Result<(), Status> {
        match self.peers.active_controller() {
            Some(active) if active == self.me => Ok(()),
            known => Err(not_controller(known)),
        }
    }

    /// Sends what is committed from `next` on until the follower goes away, or this broker hears of
    /// commits from others itself: then the follower better asks those.
    async fn serve_follower(
        self,
        mut next: u64,
        outgoing: mpsc::Sender<Result<FollowResponse, Status>>,
    ) {
        let mut positions = self.feed.positions();
        loop {
            positions.mark_unchanged();
            let takes_part = self.quorum.takes_part();
            for event in events(self.feed.missing(next), &mut next) {
                let event = FollowResponse { event: Some(event) };
                if outgoing.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if !takes_part {
                let known = self.peers.active_controller();
                // The follower may be gone.
                let _ = outgoing.send(Err(not_controller(known))).await;
                return;
            }
            tokio::select! {
                changed = positions.changed() => if changed.is_err() { return },
                () = self.quorum.absent() => {}
                () = outgoing.closed() => return,
            }
        }
    }

    fn response(&self, heartbeat: Heartbeat) -> HeartbeatResponse {
        let Position { offset, image } = self.feed.position();
        let members = self.quorum.members();
        let members = members.borrow();
        let voters = members.voters.iter().map(|(voter, address)| QuorumVoter {
            broker_id: voter.id.0,
            address: address.clone(),
        });
        HeartbeatResponse {
            voters: voters.collect(),
            metadata_offset: offset,
            ..response(&image, heartbeat)
        }
    }
}

/// One broker's open stream; closes its session's stream when dropped.
struct HeartbeatStream {
    id: StreamId,
    service: ControllerService,
    broker: Option<BrokerId>,
}

impl HeartbeatStream {
    async fn serve(
        mut self,
        mut requests: Streaming<HeartbeatRequest>,
        responses: mpsc::Sender<Result<HeartbeatResponse, Status>>,
    ) {
        let peers = Arc::clone(&self.service.peers);
        let me = Some(self.service.me);
        let deposed = peers.controller_changed(me);
        tokio::pin!(deposed);
        loop {
            let result = tokio::select! {
                () = &mut deposed => Err(not_controller(peers.active_controller())),
                message = requests.message() => match message {
                    Ok(Some(request)) => self.take(&request),
                    Ok(None) | Err(_) => break,
                },
            };
            let ended = result.is_err();
            if responses.send(result).await.is_err() || ended {
                break;
            }
        }
    }

    fn take(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatResponse, Status> {
        let heartbeat = Heartbeat {
            broker: BrokerId(request.broker_id),
            epoch: BrokerEpoch(request.broker_epoch),
            offset: request.metadata_offset,
            wants_shutdown: request.wants_shutdown,
        };
        let committed = self.service.feed.position().offset;
        let sessions = &self.service.sessions;
        match sessions.heartbeat(self.id, heartbeat, request.hosted_bytes, committed) {
            Ok(()) => {
                self.broker = Some(heartbeat.broker);
                Ok(self.service.response(heartbeat))
            }
            Err(HeartbeatError::StaleEpoch) => Err(Status::not_found(
                "this is not the broker's newest registration",
            )),
            Err(HeartbeatError::NotController) => {
                Err(not_controller(self.service.peers.active_controller()))
            }
        }
    }
}

impl Drop for HeartbeatStream {
    fn drop(&mut self) {
        if let Some(broker) = self.broker {
            self.service.sessions.close_stream(broker, self.id);
        }
    }
}

fn response(image: &Image, heartbeat: Heartbeat) -> HeartbeatResponse {
    let known = image.brokers.get(&heartbeat.broker);
    let gets_no_leaders = known.is_none_or(|broker| broker.draining || broker.fenced);
    HeartbeatResponse {
        fenced: known.is_none_or(|broker| broker.fenced),
        may_shutdown: heartbeat.wants_shutdown
            && gets_no_leaders
            && image.leaders_to_hand_over(heartbeat.broker) == 0,
        ..HeartbeatResponse::default()
    }
}

fn events(missing: Missing, next: &mut u64) -> Vec<Event> {
    match missing {
        Missing::Batches(batches) => {
            *next = batches.last().map_or(*next, |last| last.offset + 1);
            let batches = batches.into_iter();
            batches
                .map(|batch| {
                    Event::Batch(MetadataBatch {
                        offset: batch.offset,
                        records: batch.records,
                    })
                })
                .collect()
        }
        Missing::Snapshot(Position {
            offset: Some(offset),
            image,
        }) => {
            *next = offset + 1;
            snapshot_pieces(offset, &image)
        }
        Missing::Snapshot(Position { offset: None, .. }) => Vec::new(),
    }
}

fn snapshot_pieces(offset: u64, image: &Image) -> Vec<Event> {
    let mut pieces = vec![MetadataSnapshot {
        offset,
        records: Vec::new(),
        more: false,
    }];
    let mut bytes = 0;
    for record in image.to_records() {
        let record = Bytes::from(record.to_bytes());
        if bytes >= SNAPSHOT_PIECE_BYTES {
            pieces.push(MetadataSnapshot {
                offset,
                records: Vec::new(),
                more: false,
            });
            bytes = 0;
        }
        bytes += record.len();
        let piece = pieces.last_mut().expect("there is a first piece");
        piece.records.push(record);
    }
    let count = pieces.len();
    for piece in &mut pieces[..count - 1] {
        piece.more = true;
    }
    pieces.into_iter().map(Event::Snapshot).collect()
}
