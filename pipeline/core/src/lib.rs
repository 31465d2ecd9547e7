//! The pure core of tracescale: schemas, time and window arithmetic, targets, policies and the decider.
//!
//! ```text
//! rows (schema) ─▶ windows (time) ─▶ proposals ─▶ decide ─▶ Decision { reasons }
//! ```
//!
//! Architecture invariants: no I/O, no clock, no randomness, no async, no Arrow kernels. Time is an argument.
//! Everything here is deterministic, so a decision can be replayed bit for bit from its recorded inputs.

pub mod attributes;
pub mod schema;
pub mod time;
