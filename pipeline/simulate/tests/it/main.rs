//! The engines against queueing theory: every closed form that a configuration has must come out of the simulation.
//!
//! Runs are short and their seeds fixed: a result passes within 5 % or three standard errors of 20 batch means, and the standard
//! error itself must be small enough for the check to mean something.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrivals;
mod balancing;
mod closed;
mod conservation;
mod engines;
mod estimators;
mod graphs;
mod measure;
mod overload;
mod queues;
