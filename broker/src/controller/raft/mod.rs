//! The metadata quorum: openraft with its log in `__cluster_metadata-0`, over gRPC.
//!
//! What is agreed on is a sequence of [`types::MetadataBatch`]es, opaque here except to
//! [`state_machine`]. Nothing outside this module names openraft.

mod codec;
mod entry_log;
mod formation;
mod identity;
mod log_store;
mod members;
mod network;
mod observe;
mod quorum;
mod read;
mod reserve;
mod sealed_file;
mod service;
mod snapshot_store;
mod state_machine;
mod torn_tail;
mod types;

pub use identity::IdentityError;
pub(crate) use members::{ChangeError, Progress};
pub(crate) use observe::Leadership;
pub use quorum::QuorumError;
pub(crate) use quorum::{ProposeError, Quorum, QuorumOptions};
pub use service::RaftService;
