//! The Klamm broker: the asynchronous shell around the pure crates.
//!
//! A client's request goes `net` → `api` → `partition`, `coordinator` or `controller` and returns as
//! a value; nothing in the right group calls back into the left one.

pub mod admin;
pub mod api;
pub mod broker;
mod client_listeners;
pub mod client_quotas;
pub mod clock;
pub mod config;
pub mod controller;
pub mod coordinator;
pub mod dev;
pub mod health;
pub mod log_dirs;
pub mod metrics;
pub mod net;
pub mod partition;
pub mod policy;
pub mod previous_run;
mod quota;
mod rebalance;
pub mod replica;
pub mod rpc;
pub mod telemetry;
pub mod tls;
pub mod transaction;
mod warnings;
