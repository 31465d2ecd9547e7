//! SQL over streams: windows of rows become views, views feed rules.
//!
//! ```text
//! batches ─▶ streams (derive) ─▶ feed ─▶ pane states ─▶ view windows ─▶ Emission, Snapshot ─▶ rules
//! ```
//!
//! Architecture invariants: no clock (time comes in with [`Engine::advance`]), no OTLP, no sinks. DataFusion's types stay
//! inside, but for the functions that are handed in. One SQL text serves the live windows and plain queries over history,
//! and the second is the oracle of the first.

mod attribute;
mod catalog;
pub mod config;
mod cursor;
pub mod derive;
pub mod engine;
mod feed;
pub mod functions;
pub mod histogram;
mod history;
mod life;
mod output;
mod pane;
pub mod problem;
mod query;
mod registry;
mod relation;
mod rollup;
mod session;
mod shape;
pub mod shipped;
mod slot;
pub mod snapshot;
mod statement;
pub mod stats;
pub mod streams;
mod surgery;
mod view;
mod watermark;
mod window;

pub use config::{Emission, EngineConfig, EngineParts, ViewSource};
pub use engine::Engine;
pub use problem::{EngineError, QueryError, ViewProblem};
pub use snapshot::{Prepared, QueryLimits, Snapshot};
pub use stats::EngineStats;
