//! Kubernetes on this machine: kind, its node image, and what the host needs for both.

pub(crate) mod cluster;
mod engine;
mod host;
pub(crate) mod node_image;
pub(crate) mod tools;
