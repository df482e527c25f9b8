//! Deliberate defects of the planners, with which the simulation proves that it would notice them.
//!
//! Without the feature `mutations`, which no product is built with, [`mutated`] is a constant `false`
//! and nothing of this is left in the machine code.

#[cfg(feature = "mutations")]
use core::sync::atomic::{AtomicU8, Ordering};

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Mutation {
            $($(#[$doc])* $name,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

mutations! {
    /// Pods that are not ready keep no broker from being restarted.
    IgnoreUnreadyPods,
    /// Brokers that are fenced, unknown or about to stop keep no other from being restarted.
    IgnoreBrokerStates,
    /// Replicas that are not in sync keep no broker from being restarted.
    IgnoreCatchUp,
    /// A broker is restarted though the active controller forbids it.
    IgnoreRestartVerdict,
    /// A broker is stopped before its leaders have moved.
    SkipPreparation,
    /// The next broker restarts as soon as the last one serves.
    SkipSoak,
    /// The active controller is stopped without handing over.
    StopActiveController,
    /// Brokers restart in the order of their ids.
    RestartVotersFirst,
    /// Brokers in `spec.hold` are restarted.
    IgnoreHold,
    /// Things change while `spec.paused` is set.
    IgnorePause,
    /// A pod that is starting counts as one that has nothing to lose.
    ReplaceStartingPods,
    /// A voter goes before another one has its place.
    RemoveVoterFirst,
    /// A voter is removed however few of the others answer.
    IgnoreMajority,
    /// Brokers that leave may vote.
    ChooseLeavingVoters,
    /// A broker that is being emptied counts as empty.
    RemoveUndrained,
    /// A broker that leaves and has no process counts as forgotten by the controller.
    ForgetRegistration,
    /// Volumes of removed brokers are deleted whatever the policy says.
    IgnoreVolumePolicy,
    /// Ids of brokers that were removed are given again.
    ReuseIds,
    /// A broker that is wanted again stays cordoned.
    StayCordoned,
    /// The budget follows the replicas alone, not what the voters may lose.
    IgnoreVotersForBudget,
    /// The budget stays open whatever is missing.
    KeepBudgetOpen,
    /// A cluster is Ready though partitions cannot be written.
    ReadyWithoutPartitions,
    /// Brokers may form a quorum with empty disks after the first one was formed.
    FormQuorumAgain,
}

#[cfg(feature = "mutations")]
static ACTIVE: AtomicU8 = AtomicU8::new(u8::MAX);

/// Breaks this rule from now on, and no other.
#[cfg(feature = "mutations")]
pub fn activate(mutation: Option<Mutation>) {
    let number = mutation.map_or(u8::MAX, |mutation| mutation as u8);
    ACTIVE.store(number, Ordering::Relaxed);
}

/// Whether this rule is broken.
#[cfg(feature = "mutations")]
#[must_use]
pub(crate) fn mutated(mutation: Mutation) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutation as u8
}

/// Whether this rule is broken: never.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub(crate) const fn mutated(_: Mutation) -> bool {
    false
}
