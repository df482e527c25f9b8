//! The quorum keeps its majority through planned actions, its members change one by one, a new voter
//! comes before an old one goes, and it is formed only once.

use operator_plan::scale::Step;

use super::{Known, Verdict};
use crate::admin::Request;
use crate::brokers::{Brokers, Member, Process};
use crate::operator::{Call, Execution};

pub(super) fn of_call(execution: &Execution, known: &Known, call: &Call) -> Verdict {
    match call {
        Call::DeletePod { id, .. } if known.running.contains(id) && known.needed.contains(id) => {
            Err(format!(
                "no majority of the voters is left without broker {id}"
            ))
        }
        Call::Ask(Request::AddLearner(id)) => {
            let brokers = &execution.plan.status.brokers;
            let stays = brokers
                .iter()
                .any(|broker| broker.id == *id && !broker.leaving);
            stays
                .then_some(())
                .ok_or_else(|| format!("broker {id}, which leaves, shall vote"))
        }
        Call::Ask(Request::Scale(Step::RemoveVoter { id, directory })) => {
            removal(execution, known, *id, directory)
        }
        _ => Ok(()),
    }
}

fn removal(execution: &Execution, known: &Known, id: i32, directory: &str) -> Verdict {
    if known.irremovable.contains(directory) {
        return Err(format!("too few voters answer to part with broker {id}"));
    }
    let wanted = usize::try_from(execution.cluster.spec.controllers.count).unwrap_or(0);
    let answers = known.running.contains(&id) && known.directories.contains(directory);
    if answers && known.voters.contains(&id) && known.voters.len() <= wanted {
        return Err(format!(
            "broker {id} shall not vote any more, and nobody takes its place"
        ));
    }
    Ok(())
}

/// Nobody could form another quorum beside the one that there is.
pub(super) fn of_second(brokers: &Brokers) -> Verdict {
    if brokers.voters.is_empty() {
        return Ok(());
    }
    let knows_none = |process: &Process| {
        let is_it = |voter: &Member| voter.directory == process.directory;
        !brokers.directories.contains(&process.directory) && !brokers.voters.iter().any(is_it)
    };
    let may_found = |process: &Process| {
        !process.founders.is_empty()
            && process.founders.iter().all(|id| {
                let other = brokers.processes.get(id);
                let agrees = |other: &Process| other.founders == process.founders;
                other.is_some_and(|other| agrees(other) && knows_none(other))
            })
    };
    match brokers
        .processes
        .values()
        .find(|process| may_found(process))
    {
        Some(process) => Err(format!("{:?} may form a second quorum", process.founders)),
        None => Ok(()),
    }
}
