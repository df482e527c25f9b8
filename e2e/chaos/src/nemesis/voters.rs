//! One broker takes the place of another in the metadata quorum while something breaks: it is added
//! as a learner and promoted, and the other one is removed.

use anyhow::{Context as _, Result, ensure};
use klamm_e2e::random::Random;
use klamm_proto::v1::QuorumMember;

use super::during;
use crate::cluster::{BROKERS, Cluster};

pub(super) fn replace(cluster: &mut Cluster, random: &mut Random) -> Result<String> {
    let quorum = cluster.admin.describe_quorum()?;
    let mut voters = ids(&quorum.voters);
    crate::schedule::shuffle(&mut voters, random);
    let leaves = *voters.first().context("a quorum without voters")?;
    let strangers = (0..i32::from(BROKERS)).filter(|id| !voters.contains(id));
    let mut strangers: Vec<_> = strangers.collect();
    crate::schedule::shuffle(&mut strangers, random);
    let joins = *strangers.first().context("every broker is a voter")?;

    // The fault comes before or after any of the steps.
    for _ in 0..random.within(0..3) {
        // A learner that has not caught up is promoted later.
        let _ = step(cluster, joins, leaves);
    }
    let fault = during::change(cluster, random, |cluster| {
        step(cluster, joins, leaves).map(drop)
    })?;
    during::complete(cluster, "the voter is replaced", |cluster| {
        let next = step(cluster, joins, leaves)?;
        ensure!(next == Step::Done, "the last step was {next:?}");
        Ok(())
    })?;
    Ok(format!("voter {leaves} replaced by {joins}; {fault}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Taken,
    Done,
}

/// Takes the next step from where the quorum is.
fn step(cluster: &Cluster, joins: i32, leaves: i32) -> Result<Step> {
    let quorum = cluster.admin.describe_quorum()?;
    let (voters, learners) = (ids(&quorum.voters), ids(&quorum.learners));
    if voters.contains(&joins) {
        if !voters.contains(&leaves) {
            return Ok(Step::Done);
        }
        cluster.admin.remove_voter(leaves)?;
    } else if learners.contains(&joins) {
        cluster.admin.promote_voter(joins)?;
    } else {
        cluster.admin.add_learner(joins)?;
    }
    Ok(Step::Taken)
}

fn ids(members: &[QuorumMember]) -> Vec<i32> {
    members.iter().map(|member| member.broker_id).collect()
}
