//! The archive through its public interface, on real files.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests, which clippy cannot see")]

mod wal;
