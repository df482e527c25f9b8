//! What people and the operator see of a broker, beside the Kafka protocol.

mod cluster;
pub mod grpc;
pub mod http;
mod status;
mod topics;
