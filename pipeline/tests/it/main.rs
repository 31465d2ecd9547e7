//! Integration tests of the whole product, in one binary because each one links DataFusion again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests are tests, which clippy cannot see")]

mod commands;
mod documents;
mod kept;
mod live;
mod process;
mod replayed;
mod sampled;
mod tidy;
mod traffic;
mod workers;
