//! New partitions of new and of existing topics: where their replicas go, and their first state.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::command::{Assignment, CreatePartitions, NewPartitions};
use super::context::{Context, PlacementBroker, PlacementRequest};
use super::draft::Draft;
use super::error::{CommandError, Failure};
use super::response::{CreatePartitionsResponse, PartitionsCreated, Response};
use crate::metadata::{Image, PartitionImage, Record, TopicImage};
use crate::{BrokerId, LeaderEpoch, PartitionEpoch, PartitionIndex, TopicId, TopicPartition};

/// Partitions that one command may create.
pub const PARTITIONS_PER_COMMAND_MAX: usize = 10_000;

/// Partitions that the cluster may have.
pub const PARTITIONS_MAX: usize = 200_000;

pub(super) fn create(
    draft: &mut Draft,
    context: &Context<'_>,
    command: &CreatePartitions,
) -> Response {
    let mut names = BTreeSet::new();
    let mut budget = PartitionBudget::new(draft.image());
    let topics = command.topics.iter().map(|wanted| {
        let outcome = if names.insert(&wanted.name) {
            create_one(draft, context, wanted, &mut budget)
        } else {
            Err(Failure::new(
                CommandError::InvalidRequest,
                "the request names the topic twice",
            ))
        };
        PartitionsCreated {
            name: wanted.name.clone(),
            failure: outcome.err(),
        }
    });
    let response = CreatePartitionsResponse {
        topics: topics.collect(),
    };
    if command.validate_only {
        draft.discard_records();
    }
    Response::CreatePartitions(response)
}

fn create_one(
    draft: &mut Draft,
    context: &Context<'_>,
    wanted: &NewPartitions,
    budget: &mut PartitionBudget,
) -> Result<(), Failure> {
    let topic = draft.image().topic_by_name(&wanted.name).ok_or_else(|| {
        Failure::new(
            CommandError::UnknownTopic,
            format!("no topic is called {:?}", wanted.name),
        )
    })?;
    let added = check_count(topic, wanted)?;
    budget.take(added)?;
    let existing: Vec<Vec<BrokerId>> = topic
        .partitions
        .iter()
        .map(|partition| partition.target().collect())
        .collect();
    let replication_factor = existing.first().map_or(1, Vec::len);
    let shape = Shape {
        existing: &existing,
        partitions: added,
        replication_factor,
    };
    let replicas = assign(draft.image(), context, &shape, &wanted.assignments)?;
    let id = topic.id;
    push(draft, id, existing.len(), replicas);
    Ok(())
}

fn check_count(topic: &TopicImage, wanted: &NewPartitions) -> Result<usize, Failure> {
    let current = topic.partitions.len();
    let id_holds = wanted
        .expected_topic_id
        .is_none_or(|id| TopicId::from(id) == topic.id);
    let count_holds = wanted
        .expected_count
        .is_none_or(|count| usize::try_from(count) == Ok(current));
    if !id_holds || !count_holds {
        return Err(Failure::new(
            CommandError::PreconditionFailed,
            format!(
                "topic {} has the id {} and {current} partitions",
                topic.name, topic.id
            ),
        ));
    }
    match usize::try_from(wanted.count) {
        Ok(count) if count > current => Ok(count - current),
        _ => Err(Failure::new(
            CommandError::InvalidPartitions,
            format!(
                "topic {} has {current} partitions; {} is no increase",
                topic.name, wanted.count
            ),
        )),
    }
}

/// Room for partitions, in one command and in the cluster.
pub(super) struct PartitionBudget {
    command: usize,
    cluster: usize,
}

impl PartitionBudget {
    pub(super) fn new(image: &Image) -> Self {
        let partitions: usize = image
            .topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum();
        Self {
            command: PARTITIONS_PER_COMMAND_MAX,
            cluster: PARTITIONS_MAX.saturating_sub(partitions),
        }
    }

    pub(super) fn take(&mut self, partitions: usize) -> Result<(), Failure> {
        let limit = if partitions > self.command {
            format!("{PARTITIONS_PER_COMMAND_MAX} partitions in one request")
        } else if partitions > self.cluster {
            format!("{PARTITIONS_MAX} partitions in the cluster")
        } else {
            self.command -= partitions;
            self.cluster -= partitions;
            return Ok(());
        };
        Err(Failure::new(
            CommandError::LimitExceeded,
            format!("there can be {limit} at most"),
        ))
    }
}

/// The partitions that a topic gets.
pub(super) struct Shape<'a> {
    /// Replicas of the partitions it has.
    pub(super) existing: &'a [Vec<BrokerId>],
    pub(super) partitions: usize,
    pub(super) replication_factor: usize,
}

/// Replicas of the new partitions: the ones that were asked for, else the planner's.
pub(super) fn assign(
    image: &Image,
    context: &Context<'_>,
    shape: &Shape<'_>,
    assignments: &[Assignment],
) -> Result<Vec<Vec<BrokerId>>, Failure> {
    let replicas = if assignments.is_empty() {
        place(image, context, shape)?
    } else {
        check_assignments(shape, assignments)?
    };
    for (partition, replicas) in (shape.existing.len()..).zip(&replicas) {
        check_replicas(image, partition, replicas)?;
    }
    Ok(replicas)
}

fn place(
    image: &Image,
    context: &Context<'_>,
    shape: &Shape<'_>,
) -> Result<Vec<Vec<BrokerId>>, Failure> {
    let refuse = |reason: String| Failure::new(CommandError::InvalidReplicationFactor, reason);
    let brokers = placement_brokers(image);
    let request = PlacementRequest {
        brokers: &brokers,
        existing: shape.existing,
        partitions: shape.partitions,
        replication_factor: shape.replication_factor,
    };
    let replicas = (context.place)(&request).map_err(refuse)?;
    let fits = replicas.len() == shape.partitions
        && replicas
            .iter()
            .all(|replicas| replicas.len() == shape.replication_factor);
    if fits {
        Ok(replicas)
    } else {
        Err(refuse(String::from("placement gave another shape")))
    }
}

/// All brokers with what they carry.
pub(super) fn placement_brokers(image: &Image) -> Vec<PlacementBroker> {
    let mut brokers: Vec<PlacementBroker> = image
        .brokers
        .values()
        .map(|broker| PlacementBroker {
            id: broker.id,
            rack: broker.rack.clone(),
            replicas: 0,
            leaders: 0,
            available: broker.is_active() && broker.takes_replicas(),
        })
        .collect();
    let mut count = |id: BrokerId, add: fn(&mut PlacementBroker)| {
        if let Ok(index) = brokers.binary_search_by_key(&id, |broker| broker.id) {
            add(&mut brokers[index]);
        }
    };
    for (_, partition) in image.partitions() {
        for replica in &partition.replicas {
            count(*replica, |broker| broker.replicas += 1);
        }
        if let Some(preferred) = partition.preferred_leader() {
            count(preferred, |broker| broker.leaders += 1);
        }
    }
    brokers
}

fn check_assignments(
    shape: &Shape<'_>,
    assignments: &[Assignment],
) -> Result<Vec<Vec<BrokerId>>, Failure> {
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidAssignment, reason));
    let first = shape.existing.len();
    if assignments.len() != shape.partitions {
        return refuse(format!(
            "{} partitions are assigned of {} to add",
            assignments.len(),
            shape.partitions
        ));
    }
    let mut assignments: Vec<&Assignment> = assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition);
    for (index, assignment) in (first..).zip(&assignments) {
        if usize::try_from(assignment.partition) != Ok(index) {
            return refuse(format!("partition {index} is not assigned, or twice"));
        }
        if assignment.replicas.len() != shape.replication_factor {
            return refuse(format!(
                "partition {index} has {} replicas, not {} like the others",
                assignment.replicas.len(),
                shape.replication_factor
            ));
        }
    }
    let ids = |assignment: &Assignment| assignment.replicas.iter().copied().map(BrokerId).collect();
    Ok(assignments.into_iter().map(ids).collect())
}

fn check_replicas(image: &Image, partition: usize, replicas: &[BrokerId]) -> Result<(), Failure> {
    let refuse = |reason: String| Err(Failure::new(CommandError::InvalidAssignment, reason));
    if replicas.iter().collect::<BTreeSet<_>>().len() < replicas.len() {
        return refuse(format!(
            "partition {partition} names a broker twice: {replicas:?}"
        ));
    }
    if let Some(unknown) = replicas.iter().find(|id| !image.brokers.contains_key(id)) {
        return refuse(format!("broker {unknown} is not registered"));
    }
    if !replicas.iter().any(|id| image.is_active(*id)) {
        return refuse(format!(
            "no broker of partition {partition} is alive: {replicas:?}"
        ));
    }
    Ok(())
}

fn first_leader(image: &Image, isr: &[BrokerId]) -> Option<BrokerId> {
    let wanted = isr.iter().find(|id| image.is_wanted_as_leader(**id));
    wanted.or_else(|| isr.first()).copied()
}

/// Adds partitions from `first` on. Replicas on brokers that are not alive start out of sync.
pub(super) fn push(draft: &mut Draft, topic: TopicId, first: usize, replicas: Vec<Vec<BrokerId>>) {
    for (index, replicas) in (first..).zip(replicas) {
        let isr: Vec<BrokerId> = replicas
            .iter()
            .copied()
            .filter(|id| draft.image().is_active(*id))
            .collect();
        let state = PartitionImage {
            leader: first_leader(draft.image(), &isr),
            replicas,
            isr,
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
            adding: Vec::new(),
            removing: Vec::new(),
            offline: Vec::new(),
            slow: Vec::new(),
            rebuilding: Vec::new(),
            original: Vec::new(),
            replaces_dead: false,
            rebalances: false,
        };
        let partition = PartitionIndex(i32::try_from(index).expect("PARTITIONS_MAX is an i32"));
        draft.push(Record::Partition(
            state.to_record(TopicPartition { topic, partition }),
        ));
    }
}
