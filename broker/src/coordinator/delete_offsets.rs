//! OffsetDelete.

use broker_core::PartitionIndex;
use broker_core::group::{DeleteOffsetsRequest, Response};
use broker_wire::ErrorCode;
use broker_wire::message::offset_delete::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use broker_wire::message::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::error::{code, result_code};
use super::{GroupCoordinator, PartitionLog};

impl<L: PartitionLog> GroupCoordinator<L> {
    /// Deletes single offsets of a group; answers when that is durable. Partitions that do not exist by
    /// `exists` are refused one by one.
    pub async fn delete_offsets(
        &self,
        request: OffsetDeleteRequest,
        exists: impl Fn(&str, PartitionIndex) -> bool,
    ) -> OffsetDeleteResponse {
        let mut partitions = Vec::new();
        for topic in &request.topics {
            for partition in &topic.partitions {
                let index = PartitionIndex(partition.partition_index);
                if exists(&topic.name, index) {
                    partitions.push((topic.name.as_str().to_owned(), index));
                }
            }
        }
        let delete = DeleteOffsetsRequest {
            group: request.group_id.as_str().into(),
            partitions,
        };
        let results = match self.submit_deletion(&delete).await {
            Ok(results) => results,
            Err(error_code) => {
                return OffsetDeleteResponse {
                    error_code,
                    ..OffsetDeleteResponse::default()
                };
            }
        };
        let mut results = results.into_iter();
        let mut answer = |topic: &str, index: i32| {
            let known = exists(topic, PartitionIndex(index));
            let result = if known { results.next() } else { None };
            OffsetDeleteResponsePartition {
                partition_index: index,
                error_code: result.unwrap_or(ErrorCode::UnknownTopicOrPartition),
            }
        };
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter();
            OffsetDeleteResponseTopic {
                name: topic.name.clone(),
                partitions: partitions
                    .map(|partition| answer(&topic.name, partition.partition_index))
                    .collect(),
            }
        });
        OffsetDeleteResponse {
            topics: topics.collect(),
            ..OffsetDeleteResponse::default()
        }
    }

    /// One code for each partition, or one for all.
    async fn submit_deletion(
        &self,
        request: &DeleteOffsetsRequest,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self
            .shard(&request.group)
            .map_err(super::Unavailable::code)?;
        let submitted = shard.submit(|groups, now, token, out| {
            groups.handle_delete_offsets(now, request, token, out);
        });
        match submitted.await {
            Ok(Response::DeleteOffsets(Ok(results))) => {
                Ok(results.iter().map(result_code).collect())
            }
            Ok(Response::DeleteOffsets(Err(error))) => Err(code(&error)),
            Ok(_) => unreachable!("a deletion of offsets is answered as one"),
            Err(unavailable) => Err(unavailable.code()),
        }
    }
}
