//! Simulated services, the autoscalers that scale them, and scores.
//!
//! ```text
//! scenario ─▶ world ─┬▶ des   (every request)  ─┐            ┌─▶ report ─▶ score
//!                    └▶ fluid (every few secs) ─┴▶ plant ─▶ policy::run
//!                                                      ▲    │
//!                                    set_replicas ─────┘    ▼ Telemetry
//!                                                        Policy: baseline::*, modelled (tracescale itself), bandit (its knobs, learned)
//! ```
//!
//! Architecture invariants: no I/O, no clock, no async, no Arrow. All randomness comes from seeds, by stream and request, so that
//! a run repeats exactly and two policies meet the same requests. A policy sees through [`policy::Telemetry`] only what it could
//! see in production, as late as it would see it.

pub mod bandit;
pub mod baseline;
pub mod comparison;
pub mod des;
pub mod distribution;
pub mod fluid;
pub mod histogram;
pub mod model;
pub mod modelled;
mod number;
pub mod plant;
pub mod policy;
pub mod random;
pub mod report;
pub mod scenario;
pub mod score;
pub mod series;
pub mod world;
