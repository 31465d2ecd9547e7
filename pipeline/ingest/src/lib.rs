//! OTLP in, Arrow out: the receiver, its limits, and the decoder.
//!
//! ```text
//! gRPC · HTTP ─▶ admission (bytes) ─▶ decompress (capped) ─▶ decode ─▶ Admitted { batches, permit } ─▶ bounded queue
//! ```
//!
//! Architecture invariants: knows nothing of SQL, rules or sinks. The decoder is one function from a raw body to
//! batches ([`decode::decode`]), so that another can replace it and be tested against it. A request is acknowledged only
//! after its batches are in the queue, or when whoever took them from it signs; every byte held on the way is counted
//! against one budget.

pub mod admission;
mod auth;
mod body;
pub mod capture;
pub mod config;
pub mod decode;
pub mod decompress;
mod export;
mod grpc;
mod health;
mod http;
mod receipt;
pub mod server;
pub mod stats;
mod status;
mod tls;
pub mod wire;

pub use admission::{Admitted, Source};
pub use config::{Config, Tls};
pub use decompress::Compression;
pub use receipt::{Acknowledge, Receipt};
pub use server::{BindError, Bound, Clock, DecodeFn, Receiver, ServeError};
pub use stats::{Protocol, Refusal, Stats};
pub use wire::WireBody;
