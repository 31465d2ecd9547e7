//! The pure core of tracescale: schemas, time and window arithmetic, targets, policies and the decider.
//!
//! ```text
//! rows (schema) ─▶ windows (time, window) ─▶ proposals ─▶ decide ─▶ Decision { steps, reasons } ─▶ invariant
//! ```
//!
//! Architecture invariants: no I/O, no clock, no randomness, no async, no Arrow kernels. Time is an argument.
//! Everything here is deterministic, so a decision can be replayed bit for bit from its recorded inputs.

pub mod attributes;
pub mod budget;
pub mod capacity;
pub mod cascade;
pub mod decide;
pub mod duration;
pub mod invariant;
pub mod name;
pub mod policy;
pub mod proportion;
pub mod quantity;
pub mod rollout;
pub mod schedule;
pub mod schema;
pub mod target;
pub mod time;
pub mod versions;
pub mod window;
