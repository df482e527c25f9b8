//! A broker that is no member of the quorum, or hears no leader of it, learns the committed metadata
//! from others.
//!
//! Invariant: batches are applied in order without gaps; whatever does not fit ends the stream, and
//! the next one starts where the image stands.

use std::sync::Arc;
use std::time::Duration;

use broker_core::metadata::{ApplyError, DecodeRecordError, Image, Record};
use bytes::Bytes;
use klamm_proto::v1::follow_response::Event;
use klamm_proto::v1::{FollowRequest, FollowResponse, MetadataBatch, MetadataSnapshot};
use tokio::time::sleep;
use tonic::{Status, Streaming};

use super::feed::{CommittedBatch, Feed, Position};
use super::peers::Peers;
use super::raft::Quorum;

/// Bytes of a snapshot's records.
const SNAPSHOT_BYTES_MAX: usize = 512 * 1024 * 1024;
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error("no voter is known")]
    NoVoter,
    #[error("{0}")]
    Rpc(#[from] Box<Status>),
    #[error("the stream ended")]
    Ended,
    #[error("metadata offset {found} came where {expected} was expected")]
    Gap { expected: u64, found: u64 },
    #[error("the metadata snapshot is too large")]
    TooLarge,
    #[error(transparent)]
    Decode(#[from] DecodeRecordError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// What it takes to follow others.
pub(crate) struct Following {
    pub(crate) cluster_id: String,
    pub(crate) quorum: Arc<Quorum>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) feed: Arc<Feed>,
}

impl Following {
    /// Follows one voter after the other whenever this broker does not take part in the quorum
    /// itself, for ever.
    pub(crate) async fn run(self) {
        for attempt in 0.. {
            // The quorum of this broker comes first: an election is over before this is.
            sleep(RETRY_INTERVAL).await;
            self.quorum.absent().await;
            let mut follower = Follower {
                feed: Arc::clone(&self.feed),
                snapshot: Snapshot::default(),
            };
            tokio::select! {
                ended = follower.follow_voter(&self, attempt) => {
                    let Err(error) = ended;
                    tracing::debug!(%error, "follow another voter");
                }
                () = self.quorum.present() => {}
            }
        }
    }
}

struct Follower {
    feed: Arc<Feed>,
    /// The pieces of a snapshot so far.
    snapshot: Snapshot,
}

#[derive(Default)]
struct Snapshot {
    records: Vec<Bytes>,
    bytes: usize,
}

impl Follower {
    async fn follow_voter(
        &mut self,
        following: &Following,
        attempt: usize,
    ) -> Result<std::convert::Infallible, FollowError> {
        let peers = &following.peers;
        let voter = peers.voter(attempt).ok_or(FollowError::NoVoter)?;
        let mut client = peers.client(voter).ok_or(FollowError::NoVoter)?;
        let from_offset = next_offset(&self.feed.position());
        let stream = client
            .follow(FollowRequest {
                from_offset,
                cluster_id: following.cluster_id.clone(),
            })
            .await
            .map_err(Box::new)?;
        let mut stream: Streaming<FollowResponse> = stream.into_inner();
        tracing::info!(%voter, from_offset, "following the metadata log");
        loop {
            let message = stream
                .message()
                .await
                .map_err(Box::new)?
                .ok_or(FollowError::Ended)?;
            match message.event {
                Some(Event::Batch(batch)) => self.take_batch(batch)?,
                Some(Event::Snapshot(piece)) => self.take_snapshot(piece)?,
                None => {}
            }
        }
    }

    fn take_batch(&self, batch: MetadataBatch) -> Result<(), FollowError> {
        let position = self.feed.position();
        let expected = next_offset(&position);
        if batch.offset != expected {
            return Err(FollowError::Gap {
                expected,
                found: batch.offset,
            });
        }
        let mut image = position.image;
        apply(&mut image, &batch.records)?;
        let committed = CommittedBatch {
            offset: batch.offset,
            records: batch.records,
        };
        self.feed.publish(vec![committed], &image);
        Ok(())
    }

    fn take_snapshot(&mut self, piece: MetadataSnapshot) -> Result<(), FollowError> {
        self.snapshot.bytes += piece.records.iter().map(Bytes::len).sum::<usize>();
        if self.snapshot.bytes > SNAPSHOT_BYTES_MAX {
            return Err(FollowError::TooLarge);
        }
        self.snapshot.records.extend(piece.records);
        if piece.more {
            return Ok(());
        }
        let Snapshot { records, .. } = std::mem::take(&mut self.snapshot);
        let mut image = Arc::new(Image::default());
        apply(&mut image, &records)?;
        self.feed.replace(piece.offset, &image);
        Ok(())
    }
}

fn next_offset(position: &Position) -> u64 {
    position.offset.map_or(0, |offset| offset + 1)
}

fn apply(image: &mut Arc<Image>, records: &[Bytes]) -> Result<(), FollowError> {
    if records.is_empty() {
        return Ok(());
    }
    let image = Arc::make_mut(image);
    for record in records {
        image.apply(&Record::from_bytes(record)?)?;
    }
    Ok(())
}
