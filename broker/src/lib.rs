//! The Klamm broker: the asynchronous shell around the pure crates.
//!
//! A client's request goes `net` → `api` → `partition`, `coordinator` or `controller` and returns as
//! a value; nothing in the right group calls back into the left one.
