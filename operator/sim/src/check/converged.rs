//! Once faults end, the cluster becomes what its spec says, and says so; a pass over it then changes
//! nothing.

use operator_plan::conditions::find;
use operator_plan::kafka_cluster::{plan, question};
use operator_plan::observed::Admin;

use super::{Known, Verdict};
use crate::clock;
use crate::operator::is_idle;
use crate::world::World;

const CONDITIONS: [(&str, &str); 6] = [
    ("Ready", "True"),
    ("Progressing", "False"),
    ("UpToDate", "True"),
    ("Degraded", "False"),
    ("SpecValid", "True"),
    ("QuorumHealthy", "True"),
];

pub(super) fn of_world(world: &World) -> Verdict {
    let cluster = &world.kubernetes.api.cluster;
    let status = cluster.status.as_ref().ok_or("there is no status")?;
    if status.observed_generation != cluster.metadata.generation {
        return Err("the spec was not seen".to_owned());
    }
    for (type_, truth) in CONDITIONS {
        let condition = find(&status.conditions, type_);
        let condition = condition.ok_or_else(|| format!("{type_} is missing"))?;
        if condition.status != truth {
            let (status, message) = (&condition.status, &condition.message);
            return Err(format!("{type_} is {status}: {message}"));
        }
    }
    let wanted = cluster
        .spec
        .pools
        .iter()
        .map(|pool| pool.replicas)
        .sum::<i32>();
    let unfinished = status.brokers.iter().any(|broker| broker.leaving);
    if usize::try_from(wanted).ok() != Some(status.brokers.len()) || unfinished {
        return Err(format!(
            "{} brokers instead of {wanted}",
            status.brokers.len()
        ));
    }
    of_brokers(world)
}

fn of_brokers(world: &World) -> Verdict {
    let known = Known::of(world);
    let brokers = &world.brokers;
    if let Some(id) = known.unsettled.iter().next() {
        return Err(format!("broker {id} is missing"));
    }
    if let Some(id) = known.outdated.iter().next() {
        return Err(format!("broker {id} is outdated"));
    }
    let wanted = world.kubernetes.api.cluster.spec.controllers.count;
    if usize::try_from(wanted).ok() != Some(brokers.voters.len()) || !brokers.learners.is_empty() {
        return Err(format!("{:?} vote, {wanted} shall", known.voters));
    }
    let mut registered = brokers.registered.iter();
    if let Some((id, _)) = registered.find(|(_, broker)| broker.cordoned || broker.drain) {
        return Err(format!("broker {id} is cordoned or drained"));
    }
    if brokers.rebalancing {
        return Err("replicas move".to_owned());
    }
    if world.kubernetes.budget() == 0 {
        return Err("evictions are not allowed".to_owned());
    }
    Ok(())
}

/// What another operator would plan.
pub(super) fn is_idempotent(world: &World) -> Verdict {
    let cluster = &world.kubernetes.api.cluster;
    let mut observed = world.observed();
    observed.admin = Admin::Answered(world.brokers.describe());
    observed.quorum = Some(world.brokers.describe_quorum());
    let now = clock::timestamp(world.now);
    while let Some(question) = question(cluster, &observed, now) {
        world.brokers.answer(question, &mut observed.answers);
    }
    let plan = plan(cluster, &observed, now);
    if is_idle(&plan, cluster) {
        return Ok(());
    }
    Err(format!(
        "another pass has something to do: {:?}, {} objects, records {}, reports {}",
        plan.action,
        plan.apply.len(),
        plan.record_first.is_some(),
        cluster.status.as_ref() != Some(&plan.status),
    ))
}
