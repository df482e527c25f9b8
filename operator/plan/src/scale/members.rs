//! Which member the metadata quorum gets or loses next: one in a pass, a new voter before an old one
//! goes, the active controller last, and none without which too few voters would answer.
//!
//! A member whose broker lost its disk never answers again, and its broker is somebody else: the member
//! is removed, and the broker joins like any other.

use super::{Reason, Scale, Situation, Step, waiting};
use crate::allocation::Broker;
use crate::mutation::{Mutation, mutated};
use crate::observed::{ClusterFacts, QuorumFacts, QuorumMember};
use crate::voters::{self, Candidate};

/// The next change, or why it has to wait; nothing when the members are as wanted.
pub(super) fn change(situation: &Situation<'_>, facts: &ClusterFacts) -> Option<Scale> {
    let wanted = wanted(situation, facts);
    let Some(quorum) = situation.quorum else {
        let mut current = facts.voters.clone();
        current.sort_unstable();
        let message = "nobody can tell how far the voters are, so that none is changed".to_owned();
        return (current != wanted).then(|| waiting(Reason::AdminUnreachable, message));
    };
    let early = mutated(Mutation::RemoveVoterFirst);
    let early = early.then(|| part_with_surplus(situation, (facts, quorum), &wanted));
    part_with_lost(quorum)
        .or_else(|| early.flatten())
        .or_else(|| part_with_learner(quorum, &wanted))
        .or_else(|| {
            let mut joining = wanted.iter().filter(|id| !votes(quorum, **id));
            let id = joining.next()?;
            Some(Scale::Step(Step::AddVoter(*id)))
        })
        .or_else(|| part_with_surplus(situation, (facts, quorum), &wanted))
}

/// Who shall vote. A voter that is down keeps its place: it may come back with its log at any time.
fn wanted(situation: &Situation<'_>, facts: &ClusterFacts) -> Vec<i32> {
    let candidates = staying(situation).map(|broker| Candidate {
        id: broker.id,
        zone: broker.zone.as_deref(),
        votes: facts.voters.contains(&broker.id),
        serves: situation.admin.serves(broker.id),
    });
    let able = candidates.filter(|candidate| candidate.votes || candidate.serves);
    voters::choose(&able.collect::<Vec<_>>(), situation.voters)
}

fn staying<'a>(situation: &Situation<'a>) -> impl Iterator<Item = &'a Broker> + use<'a> {
    let leaving = situation.leaving;
    let brokers = situation.brokers.iter();
    brokers.filter(|broker| !leaving.contains(&broker.id) || mutated(Mutation::ChooseLeavingVoters))
}

/// A member whose broker is registered with another directory.
fn part_with_lost(quorum: &QuorumFacts) -> Option<Scale> {
    let mut members = quorum.voters.iter().chain(&quorum.learners);
    let member = members.find(|member| {
        let found = quorum.observers.get(&member.id);
        found.is_some_and(|found| *found != member.directory)
    })?;
    if majority_answers_without(quorum, member) {
        return Some(Scale::Step(removal(member)));
    }
    let message = format!(
        "broker {} has lost the disk with its vote, and gets a new one once a majority of the other \
         voters answers: bring them back",
        member.id
    );
    Some(waiting(Reason::VoterChange, message))
}

/// One that was to vote, and that another one was chosen over since.
fn part_with_learner(quorum: &QuorumFacts, wanted: &[i32]) -> Option<Scale> {
    let mut learners = quorum.learners.iter();
    let idle = learners.find(|learner| !wanted.contains(&learner.id))?;
    Some(Scale::Step(removal(idle)))
}

/// Those that do not answer first.
fn part_with_surplus(
    situation: &Situation<'_>,
    (facts, quorum): (&ClusterFacts, &QuorumFacts),
    wanted: &[i32],
) -> Option<Scale> {
    let voters = quorum.voters.iter();
    let surplus = voters.filter(|voter| !wanted.contains(&voter.id));
    let next = surplus.min_by_key(|voter| {
        let controls = facts.controller_id == Some(voter.id);
        (controls, voter.reachable, voter.id)
    })?;
    let id = next.id;
    if wanted.len() < situation.voters.min(staying(situation).count()).max(1) {
        let message = format!("broker {id} votes until another one serves that can take its place");
        return Some(waiting(Reason::VoterChange, message));
    }
    if !majority_answers_without(quorum, next) {
        let message = format!(
            "broker {id} votes until a majority of the other voters answers: bring them back"
        );
        return Some(waiting(Reason::VoterChange, message));
    }
    Some(Scale::Step(removal(next)))
}

fn votes(quorum: &QuorumFacts, id: i32) -> bool {
    quorum.voters.iter().any(|voter| voter.id == id)
}

fn majority_answers_without(quorum: &QuorumFacts, member: &QuorumMember) -> bool {
    let others = || quorum.voters.iter().filter(|voter| *voter != member);
    let reachable = others().filter(|voter| voter.reachable).count();
    reachable * 2 > others().count() || mutated(Mutation::IgnoreMajority)
}

fn removal(member: &QuorumMember) -> Step {
    Step::RemoveVoter {
        id: member.id,
        directory: member.directory.clone(),
    }
}
