//! The decoder and captures through their public functions.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests, which clippy cannot see")]

mod capture;
mod decode;
mod decode_any;
mod decode_json;
mod rows;
