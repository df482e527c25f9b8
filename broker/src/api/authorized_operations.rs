//! What a client may do, as a set of bits by the codes of `AclOperation` (KIP-430). Without
//! authorization everybody may do whatever there is to do.

/// Create, alter, describe, cluster action, describe and alter configs, idempotent write.
pub(super) const CLUSTER: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// Read, write, create, delete, alter, describe, describe and alter configs.
pub(super) const TOPIC: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// Read, delete, describe, describe and alter configs.
pub(super) const GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;
