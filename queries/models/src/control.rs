//! Control: from windows of telemetry to the number of replicas that a service should have.
//!
//! ```text
//! arrival rates ─▶ peak (what comes before an order is ready) ─┐
//! service time ─▶ curve (what replicas can take) ──────────────┼─▶ planner ─▶ Plan { replicas, figures, reasons }
//! starts ─▶ startup ─▶ supply (how far ahead to look) ─────────┘      ▲
//! prices ─▶ cost (what a broken promise is worth) ────────────────────┘
//! ```
//!
//! What latencies teach about the model comes from [`crate::calibration`] as a factor on the load; here it is only applied.
//! Every function is pure and takes what windows of spans deliver, so that live rules and simulations compute the same. Guards
//! against wrong data and hasty changes are not here: they belong to the decider, and act on every plan.

mod asymmetry;
mod cascade;
mod cost;
mod curve;
mod peak;
mod planner;
mod startup;
mod supply;

pub use asymmetry::{DOWN_TOLERANCE, Stabilizer, is_worth_shrinking};
pub use cascade::{FrontDoor, VisitRatio, cascade};
pub use cost::{Prices, is_saving_worth, newsvendor_quantile};
pub use curve::Curve;
pub use peak::{Peak, PeakForecaster};
pub use planner::{Plan, Planner, Reason, Settings, Window};
pub use startup::{STARTS, Startups};
pub use supply::{Starting, Supply, catch_up_servers, drain_time, lead_time};
