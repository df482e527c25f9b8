//! The gRPC contracts between brokers and between the operator and the brokers, generated from
//! `klamm/v1/*.proto`. Nothing else is shared by the two sides.
//!
//! Compatibility: fields are only ever added; a number once used is never given another meaning.

#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths
)]
pub mod v1 {
    tonic::include_proto!("klamm.v1");
}
