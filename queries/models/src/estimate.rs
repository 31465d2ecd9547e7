//! Estimates from spans and metrics: rates, demand, servers, variability, fan-out, and whether the data suffice.
//!
//! ```text
//! spans    ─▶ rate, wait, servers, load_curve, fan_out ─┐
//! counters ─▶ demand, operations ───────────────────────┼─▶ gate ─▶ queue models, decisions
//! counts   ─▶ variability ──────────────────────────────┘
//! ```
//!
//! Self time, the critical path and clock offsets are in [`crate::interval`], intervals of counts in [`crate::confidence`].
//! Rates are per second, durations in seconds, shares from 0 to 1; "scv" is the squared coefficient of variation.

pub mod demand;
pub mod fan_out;
pub mod gate;
pub mod least_squares;
pub mod load_curve;
pub mod operations;
pub mod rate;
pub mod servers;
pub mod variability;
pub mod wait;
