//! The receiver as clients meet it: over loopback, with real gRPC and HTTP clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests, which clippy cannot see")]

mod receiver;
mod receiver_drain;
mod receiver_grpc;
mod receiver_http;
mod receiver_overload;
mod receiver_tls;
