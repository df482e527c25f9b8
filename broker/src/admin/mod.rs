//! What people and the operator see of a broker, beside the Kafka protocol.

mod brokers;
mod caller;
mod cluster;
mod config;
mod drain;
pub mod grpc;
pub mod http;
mod quorum;
mod rebalance;
mod restart;
mod route;
mod status;
mod topics;
