//! Queueing formulas: waiting and sojourn in the systems that services are.
//!
//! ```text
//! erlang ─▶ many (M/M/c) ─▶ smallest number of servers
//!    │
//!    ├────▶ sharing (processor sharing, the default for what computes)
//!    └────▶ general (G/G/c, for worker pools and consumers)
//! ```
//!
//! A type is made only from a load that its servers can carry, so that no number ever comes out of an overload. Unless said
//! otherwise times are in units of the mean service time; types that hold a service time speak in seconds.

pub mod arrival;
pub mod erlang;
pub mod finite;
pub mod general;
pub mod join;
pub mod many;
pub mod network;
pub mod overload;
pub mod pooling;
pub mod scalability;
pub mod service;
pub mod sharing;
pub mod single;

pub(crate) mod root;
