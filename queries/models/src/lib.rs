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

pub mod calibration;
pub mod capacity;
pub mod cause;
pub mod confidence;
pub mod control;
pub mod counter;
pub mod estimate;
pub mod explicit;
pub mod exponential;
pub mod flow;
pub mod forecast;
pub mod interval;
pub mod queue;
pub mod sizing;
pub mod special;
pub mod vertical;
