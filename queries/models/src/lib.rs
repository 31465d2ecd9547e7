//! Pure mathematics of tracescale: what spans and metric points say about load, and what capacity that load needs.
//!
//! ```text
//! intervals ─▶ self time, concurrency ─┐
//! counts    ─▶ confidence, gates       ├─▶ queries (SQL functions, derived streams) ─▶ replicas
//! counters  ─▶ increments, histograms ─┘
//! ```
//!
//! Architecture invariants: no Arrow, no SQL, no I/O, no clock, no randomness. Every function is total: a value that cannot
//! be computed is `None`, never zero and never a panic. Each formula has a test against a reference value.

pub mod capacity;
pub mod confidence;
pub mod counter;
pub mod explicit;
pub mod exponential;
pub mod interval;
pub mod special;
