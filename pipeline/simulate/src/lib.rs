//! Simulated services, the baselines that scale them, and scores.

pub mod baseline;
pub mod des;
pub mod distribution;
pub mod fluid;
pub mod histogram;
pub mod model;
mod number;
pub mod plant;
pub mod policy;
pub mod random;
pub mod report;
pub mod scenario;
pub mod score;
pub mod series;
pub mod world;
