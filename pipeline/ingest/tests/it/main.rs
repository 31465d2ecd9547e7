//! Ingest through its public interface: the receiver with real clients over loopback, the decoder and captures.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests are tests, which clippy cannot see")]

mod capture;
mod decode;
mod decode_any;
mod decode_json;
mod receiver;
mod receiver_drain;
mod receiver_grpc;
mod receiver_http;
mod receiver_overload;
mod receiver_receipt;
mod receiver_tls;
mod rows;
