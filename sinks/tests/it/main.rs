//! Every sink against the same suite, and the Kubernetes sink against answers recorded from a real API server.

#![expect(clippy::expect_used, clippy::panic, reason = "a helper that cannot go on fails its test")]

mod cluster;
mod conformance;
mod credentials;
mod exchange;
mod pods;
mod rbac;
mod real;
mod resize;
mod scenarios;
mod server;
