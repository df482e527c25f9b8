//! ConsumerGroupDescribe (KIP-848): groups of the consumer protocol with their members.

use crate::error_code::ErrorCode;
use crate::message::schema::message;
use crate::primitive::{Str, Uuid};

message! {
    flexible 0;

    /// Groups to describe.
    pub struct ConsumerGroupDescribeRequest {
        group_ids: Vec<Str>,
        include_authorized_operations: bool,
    }
}

message! {
    flexible 0;

    /// The groups.
    pub struct ConsumerGroupDescribeResponse {
        throttle_time_ms: i32,
        groups: Vec<ConsumerGroupDescribedGroup>,
    }

    /// A group.
    pub struct ConsumerGroupDescribedGroup {
        error_code: ErrorCode,
        error_message: Option<Str>,
        group_id: Str,
        group_state: Str,
        group_epoch: i32,
        assignment_epoch: i32,
        assignor_name: Str,
        members: Vec<ConsumerGroupDescribedMember>,
        /// Bit set; `i32::MIN` if not asked for.
        authorized_operations: i32 = i32::MIN,
    }

    /// A member.
    pub struct ConsumerGroupDescribedMember {
        member_id: Str,
        instance_id: Option<Str>,
        rack_id: Option<Str>,
        member_epoch: i32,
        client_id: Str,
        client_host: Str,
        subscribed_topic_names: Vec<Str>,
        subscribed_topic_regex: Option<Str>,
        assignment: ConsumerGroupDescribedAssignment,
        target_assignment: ConsumerGroupDescribedAssignment,
        /// 0 for a member that speaks the classic protocol, 1 for one of the consumer protocol.
        member_type: i8 [1..] = -1,
    }

    /// What a member has, or shall have.
    pub struct ConsumerGroupDescribedAssignment {
        topic_partitions: Vec<ConsumerGroupDescribedTopicPartitions>,
    }

    /// Partitions of one topic.
    pub struct ConsumerGroupDescribedTopicPartitions {
        topic_id: Uuid,
        topic_name: Str,
        partitions: Vec<i32>,
    }
}
