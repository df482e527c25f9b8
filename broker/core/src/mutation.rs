//! Deliberate defects of the replication protocol, with which the simulation proves that it would
//! notice them.
//!
//! Without the feature `mutations`, which no product is built with, [`mutated`] is a constant
//! `false` and nothing of this is left in the machine code.

#[cfg(feature = "mutations")]
use core::sync::atomic::{AtomicU8, Ordering};

macro_rules! mutations {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule that is broken. Those of what a broker does around its replicas are broken in the
        /// simulation.
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
    /// The high watermark does not wait for the slowest member of the ISR.
    ForgetSlowestMember,
    /// The high watermark waits for the committed ISR only, not for proposed members.
    CountCommittedIsrOnly,
    /// A proposal that was refused is forgotten, though a copy of it may be on its way.
    ForgetRefusedProposal,
    /// Records are committed however small the ISR is.
    IgnoreMinInsync,
    /// A follower is proposed for the ISR without having caught up.
    EnterWithoutCatchingUp,
    /// A sequence that was appended before is appended again.
    AppendDuplicates,
    /// The controller accepts ISR changes that are based on an older partition epoch.
    AcceptStalePartitionEpoch,
    /// The controller elects any live replica.
    ElectAnyReplica,
    /// The controller takes every restart for a clean one.
    TrustEveryRestart,
    /// The controller forgets who left an ISR that was too small.
    ForgetEligibleReplicas,
    /// Followers keep records that the leader does not have.
    SkipTruncation,
    /// Followers cut their logs at their high watermark.
    TruncateToHighWatermark,
    /// `acks=all` is answered after the leader's append.
    AcknowledgeAtOnce,
    /// A new leader does not know the sequences of producers.
    ForgetSequences,
    /// A broker takes its roles from metadata before it is registered.
    LeadBeforeRegistration,
    /// With `flush.messages=1`, what is written counts as durable.
    CountUnsyncedRecords,
    /// With `flush.messages=1`, a follower pulls on before what it has is durable.
    AcknowledgeUnsynced,
    /// The controller decides before its last decision is committed.
    DecideOnOldImage,
    /// Pulls count whatever leader epoch they name.
    IgnorePullEpoch,
    /// Pulls of a registration that is over count.
    CountEarlierRegistration,
    /// Followers take answers of an earlier leader epoch, and of streams that they have replaced.
    TakeStaleAnswers,
    /// The controller takes members into the ISR that have restarted since they caught up.
    AcceptRestartedMember,
    /// A broker that did not run for a while serves as before.
    ServeWithoutLease,
    /// A broker counts as knowing metadata that its partitions do not follow yet.
    ReportKnownMetadata,
    /// A broker that wants to shut down may do so at once.
    StopBeforeHandover,
    /// A stop counts as clean before the logs are durable.
    CallEveryStopClean,
    /// No replica is elected uncleanly where that is allowed.
    NeverElectUncleanly,
    /// A replica that leads without records that were committed does not report them.
    HideMissingRecords,
    /// Records above the high watermark are deleted where a client asks for it.
    DeleteUncommitted,
    /// A log start offset is told before it is written down.
    ForgetLogStart,
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
pub fn mutated(mutation: Mutation) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutation as u8
}

/// Whether this rule is broken: never.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub const fn mutated(_: Mutation) -> bool {
    false
}
