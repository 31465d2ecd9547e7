//! The receiver as clients meet it: over loopback, with real gRPC and HTTP clients.

mod receiver;
mod receiver_grpc;
