//! Every sink against the same suite, and the Kubernetes sink against answers recorded from a real API server.

mod cluster;
mod conformance;
mod exchange;
mod rbac;
mod real;
mod scenarios;
mod server;
