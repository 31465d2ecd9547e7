//! What is assumed of a load before it was seen: what eleven recorded loads have in common.
//!
//! Fitted on web servers, a load balancer, tweets, taxis, bicycles, electricity and image generation, each with the same weight,
//! without their last four days; leaving one of them out changes no figure by more than a tenth of it, or 0.07.

use super::features::{COUNT, Features, SPREAD_COUNT, Spread};

/// How far peaks are from their forecasts, in units of the expected spread: 20 shares of the cases.
pub(super) const PRIOR: [f64; 20] =
    [-2.4, -1.9, -1.5, -1.2, -1.0, -0.85, -0.67, -0.5, -0.35, -0.18, 0.0, 0.19, 0.42, 0.68, 0.97, 1.33, 1.8, 2.45, 3.4, 5.5];
/// Growth of the peak per sample that is looked ahead.
const GROWTH: f64 = 0.002;
/// How much of the last minute's change comes once more.
const MOMENTUM: f64 = 0.5;
/// Samples after which most of what a load is above the last quarter of an hour is gone again.
const REVERSION: f64 = 80.0;
/// Logarithm of the spread: alone, by the logarithm of the samples looked ahead, by restlessness and by the noise of counting.
const ALONE: f64 = -1.75;
const AHEAD: f64 = 0.62;
const RESTLESS: f64 = 0.53;
const COUNTED: f64 = 0.31;

/// Weights of the change.
pub(super) fn prior_change(horizon: f64) -> Features {
    let mut weights = [0.0; COUNT];
    (weights[0], weights[2], weights[4]) = (GROWTH * horizon, MOMENTUM, (-horizon / REVERSION).exp_m1());
    weights
}

/// Weights of the spread.
pub(super) fn prior_spread(horizon: f64) -> Spread {
    let mut weights = [0.0; SPREAD_COUNT];
    (weights[0], weights[2], weights[3]) = (ALONE + AHEAD * horizon.ln(), RESTLESS, COUNTED);
    weights
}
