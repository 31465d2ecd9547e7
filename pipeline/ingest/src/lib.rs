//! OTLP in, Arrow out: the receiver, its limits, and the decoder.
//!
//! ```text
//! gRPC · HTTP ─▶ admission (bytes) ─▶ decompress (capped) ─▶ decode ─▶ Admitted { batches, permit } ─▶ bounded queue
//! ```
//!
//! Architecture invariants: knows nothing of SQL, rules or sinks. The decoder is one function from a raw body to
//! batches ([`decode::decode`]), so that another can replace it and be tested against it.

pub mod capture;
pub mod decode;
