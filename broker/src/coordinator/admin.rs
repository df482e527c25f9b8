//! DescribeGroups, ListGroups and DeleteGroups.

use broker_core::group::{GroupDescription, GroupListing, GroupState, Response};
use broker_wire::message::delete_groups::DeletableGroupResult;
use broker_wire::message::describe_groups::{DescribedGroup, DescribedGroupMember};
use broker_wire::message::list_groups::ListedGroup;
use broker_wire::message::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse,
};
use broker_wire::{ErrorCode, Str};
use bytes::Bytes;

use super::error::{Unavailable, result_code};
use super::{GroupCoordinator, PartitionLog};

/// The types of groups (KIP-848).
const CLASSIC: &str = "Classic";
const CONSUMER: &str = "Consumer";

impl<L: PartitionLog> GroupCoordinator<L> {
    /// State and members of groups.
    #[must_use]
    pub fn describe(
        &self,
        request: &DescribeGroupsRequest,
        version: i16,
    ) -> DescribeGroupsResponse {
        let groups = request
            .groups
            .iter()
            .map(|group| self.describe_group(group, version));
        DescribeGroupsResponse {
            groups: groups.collect(),
            ..DescribeGroupsResponse::default()
        }
    }

    fn describe_group(&self, group: &Str, version: i16) -> DescribedGroup {
        let found = self
            .shard(group)
            .and_then(|shard| shard.with_groups(|groups, _, _| groups.describe(group)));
        let described = match found {
            Ok(Some(description)) => described(description),
            Ok(None) => not_found(version),
            Err(unavailable) => DescribedGroup {
                error_code: unavailable.code(),
                ..DescribedGroup::default()
            },
        };
        DescribedGroup {
            group_id: group.clone(),
            ..described
        }
    }

    /// The groups that this broker coordinates, by state and type.
    #[must_use]
    pub fn list(&self, request: &ListGroupsRequest) -> ListGroupsResponse {
        let mut response = ListGroupsResponse::default();
        let admits = |filter: &[Str], name: &str| {
            filter.is_empty()
                || filter
                    .iter()
                    .any(|admitted| admitted.eq_ignore_ascii_case(name))
        };
        for shard in self.shards() {
            let found = shard.with_groups(|groups, _, _| groups.list().collect::<Vec<_>>());
            match found {
                Ok(listings) => {
                    let listed = listings.into_iter().map(listed);
                    let admitted = listed.filter(|group| {
                        admits(&request.types_filter, &group.group_type)
                            && admits(&request.states_filter, &group.group_state)
                    });
                    response.groups.extend(admitted);
                }
                Err(Unavailable::Loading) => {
                    response.error_code = ErrorCode::CoordinatorLoadInProgress
                }
                // Another broker lists its groups.
                Err(Unavailable::NotCoordinator) => {}
            }
        }
        response
    }

    /// Deletes groups without members, and what they committed.
    pub async fn delete(&self, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut response = DeleteGroupsResponse::default();
        for group_id in request.groups_names {
            let error_code = self.delete_group(&group_id).await;
            response.results.push(DeletableGroupResult {
                group_id,
                error_code,
            });
        }
        response
    }

    async fn delete_group(&self, group: &str) -> ErrorCode {
        let shard = match self.shard(group) {
            Ok(shard) => shard,
            Err(unavailable) => return unavailable.code(),
        };
        let submitted =
            shard.submit(|groups, now, token, out| groups.handle_delete(now, group, token, out));
        match submitted.await {
            Ok(Response::Delete(result)) => result_code(&result),
            Ok(_) => unreachable!("a deletion is answered as one"),
            Err(unavailable) => unavailable.code(),
        }
    }
}

fn described(description: GroupDescription) -> DescribedGroup {
    let members = description
        .members
        .into_iter()
        .map(|member| DescribedGroupMember {
            member_id: member.member_id.into(),
            group_instance_id: member.instance_id.map(Into::into),
            client_id: member.client_id.into(),
            client_host: member.client_host.into(),
            member_metadata: Bytes::from_owner(member.subscription),
            member_assignment: Bytes::from_owner(member.assignment),
        });
    DescribedGroup {
        group_state: description.state.to_string().into(),
        protocol_type: description.protocol_type.into(),
        protocol_data: description.protocol.into(),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

/// Before v6 a group that does not exist is a dead one (KIP-1043).
fn not_found(version: i16) -> DescribedGroup {
    let (error_code, error_message) = match version {
        ..=5 => (ErrorCode::None, None),
        6.. => (
            ErrorCode::GroupIdNotFound,
            Some("there is no group of this name".into()),
        ),
    };
    DescribedGroup {
        error_code,
        error_message,
        group_state: GroupState::Dead.to_string().into(),
        ..DescribedGroup::default()
    }
}

fn listed(listing: GroupListing) -> ListedGroup {
    ListedGroup {
        group_id: listing.group.to_string().into(),
        protocol_type: listing.protocol_type.into(),
        group_state: match listing.consumer {
            Some(state) => state.to_string().into(),
            None => listing.state.to_string().into(),
        },
        group_type: match listing.consumer {
            Some(_) => CONSUMER.into(),
            None => CLASSIC.into(),
        },
    }
}
