//! What Klamm's end-to-end tests stand on: brokers on this machine, the Kafka clients of other
//! languages, and checkers of what these clients saw.
//!
//! The brokers are processes of the binary that [`BROKER_BIN`] names, the clients are the real
//! ones. Everything that tests fetch or build is kept under the user's cache directory; everything
//! that they write goes to temporary directories, which end with the test.

pub mod admin;
pub mod cache;
pub mod cases;
pub mod certificates;
pub mod client;
pub mod clients_table;
pub mod cluster;
pub mod dev_cluster;
pub mod failover;
pub mod feed;
pub mod kafka_cluster;
pub mod kubernetes;
pub mod load;
pub mod maven;
pub mod messages;
pub mod process;
pub mod random;
pub mod report;
pub mod suite;
pub mod tool;

/// The environment variable with the path of the `klamm-broker` to test.
pub const BROKER_BIN: &str = "KLAMM_BROKER_BIN";

/// The environment variable with the path of the `klamm` command to test.
pub const CLI_BIN: &str = "KLAMM_CLI_BIN";
