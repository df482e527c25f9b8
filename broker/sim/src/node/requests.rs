//! Clients' requests on a broker. Mirrors `broker/src/partition/{append,read}.rs`.

use broker_core::partition::Acks;
use broker_core::{LeaderEpoch, Offset, TopicPartition};
use broker_log::MinOneBatch;
use bytes::Bytes;

use super::hosted::Hosted;
use super::process::Process;
use crate::env::Env;
use crate::event::{BrokerTimer, FetchError, Message, Peer, ProduceError};

const FETCH_BYTES_MAX: usize = 1200;

impl Process {
    pub(super) fn produce(
        &mut self,
        env: &mut Env,
        request: (Peer, u64),
        id: TopicPartition,
        batch: &Bytes,
        acks: Acks,
    ) {
        let (now, lease) = (self.clock(env), self.holds_lease(env));
        let result = match self.hosted.get_mut(&id) {
            Some(hosted) if lease => hosted.append(now, request, acks, batch.to_vec()),
            Some(_) | None => Err(ProduceError::NotLeader),
        };
        if result.is_ok() {
            self.served(env, id);
        }
        self.appended(id);
        self.start_flush(env, id);
        let result = match result {
            Ok(None) => return,
            Ok(Some(parked)) => Ok(parked.base_offset),
            Err(error) => {
                env.note(self.peer(), || {
                    format!("refuses {} a batch: {error:?}", request.0)
                });
                Err(error)
            }
        };
        if acks != Acks::None {
            let request_id = request.1;
            let answer = Message::Produced {
                request: request_id,
                result,
            };
            env.send(self.peer(), request.0, answer);
        }
    }

    /// Starts a group commit unless one is running.
    pub(super) fn start_flush(&mut self, env: &mut Env, id: TopicPartition) {
        let now = env.timestamp(self.index);
        if let Some(hosted) = self.hosted.get_mut(&id)
            && !hosted.flushing
            && hosted.log.flush_due(now)
        {
            hosted.flushing = true;
            let lasts = env.random.range(500, 8_000);
            env.timer(self.index, lasts, BrokerTimer::Flush(id));
        }
    }

    pub(super) fn end_flush(&mut self, env: &mut Env, id: TopicPartition) {
        let Some(hosted) = self.hosted.get_mut(&id) else {
            return;
        };
        for parked in hosted.flush() {
            let (request, result) = (parked.request, Ok(parked.base_offset));
            env.send(
                Peer::Broker(self.index),
                parked.client,
                Message::Produced { request, result },
            );
        }
        self.start_flush(env, id);
    }

    fn led(
        &self,
        env: &Env,
        id: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Result<&Hosted, FetchError> {
        let hosted = self.hosted.get(&id).filter(|_| self.holds_lease(env));
        let hosted = hosted.ok_or(FetchError::NotLeader)?;
        let checked = hosted.replica.check_leader_epoch(Some(epoch));
        checked.map_err(|_| FetchError::NotLeader)?;
        Ok(hosted)
    }

    /// A client gets what only the leader may answer.
    fn served(&self, env: &mut Env, id: TopicPartition) {
        if let Some(hosted) = self.hosted.get(&id) {
            let epoch = hosted.replica.leader_epoch();
            env.check.served(env.now, self.me(), id, epoch);
        }
    }

    pub(super) fn fetch(
        &self,
        env: &mut Env,
        id: TopicPartition,
        epoch: LeaderEpoch,
        offset: Offset,
    ) -> Result<Bytes, FetchError> {
        let hosted = self.led(env, id, epoch)?;
        self.served(env, id);
        let high_watermark = hosted.replica.high_watermark();
        let (start, end) = (hosted.log.start_offset(), hosted.log.end_offset());
        if offset < start || offset > end {
            return Err(FetchError::OutOfRange { start, end });
        }
        let mut records = Bytes::new();
        if offset < high_watermark {
            let read = hosted
                .log
                .read(offset, high_watermark, FETCH_BYTES_MAX, MinOneBatch::Yes);
            if let Some(slice) = read.map_err(|_| FetchError::Storage)? {
                records = slice.read_to_bytes().map_err(|_| FetchError::Storage)?;
            }
        }
        Ok(records)
    }

    pub(super) fn epoch_end(
        &self,
        env: &mut Env,
        id: TopicPartition,
        current: LeaderEpoch,
        wanted: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, FetchError> {
        let hosted = self.led(env, id, current)?;
        self.served(env, id);
        Ok(hosted.log.end_offset_for_epoch(wanted))
    }
}
