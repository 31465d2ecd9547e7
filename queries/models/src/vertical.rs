//! CPU and memory of one replica from its usage: what it should request. Whether that is worth a change is the decider's to say.
//!
//! ```text
//! usage ─▶ decaying histogram (CPU) ─┐
//! usage ─▶ peak per hour (memory)    ├─▶ target within [lower, upper]
//! kills for lack of memory           ┘
//! ```
//!
//! One machinery, two sets of constants: [`Settings::ours`], and [`Settings::vpa`] for comparison, which are those of the
//! recommender of the Kubernetes Vertical Pod Autoscaler (its source, v1). Ours follow Rzadca et al., *Autopilot* (2020).
//! Cores and bytes are per replica. Nothing here grows with time, and the same observations give the same state again.

mod histogram;
mod history;
mod peaks;
mod settings;

pub use histogram::{Buckets, DecayingHistogram};
pub use history::{Recommendation, Usage, UsageHistory};
pub use peaks::Peaks;
pub use settings::{CpuTarget, MemoryTarget, Settings};
