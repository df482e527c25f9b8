//! Several brokers in this process, each on a runtime of its own, over loopback.

mod admin;
mod cluster;
mod lifecycle;
mod quorum;
mod voters;
