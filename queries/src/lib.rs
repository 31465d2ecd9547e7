//! SQL over streams: windows of rows become views, views feed rules.
//!
//! ```text
//! rows ─▶ feed (late? future?) ─▶ streams (derived) ─▶ surgery: Partial ─▶ pane: states ─▶ Final per window ─▶ history ─▶ snapshot: SQL
//!                                                        ▲ shape: which views may            │ cursor: which windows are due
//!                                                        statement, relation: HOP, TUMBLE    ▼ registry, life: idle or missing
//! ```
//!
//! Architecture invariants: no clock is read here, time is an argument; DataFusion's types do not appear in results (Arrow's do);
//! no code looks at single rows, only Arrow kernels and DataFusion's operators do; whatever comes, memory is bounded by the
//! configuration: panes by groups × panes, history by bytes, late rows and names by number.

mod attribute;
mod catalog;
mod collected;
pub mod config;
mod cursor;
pub mod derive;
pub mod engine;
mod feed;
mod forecast;
pub mod functions;
mod gather;
mod hash;
pub mod histogram;
mod history;
pub mod judgement;
mod keys;
mod life;
pub mod model;
mod output;
mod pane;
pub mod past;
pub mod problem;
mod query;
mod refused;
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
pub mod testbed;
mod view;
mod watermark;
mod window;

pub use catalog::{needed, of_metrics};
pub use config::{Emission, EngineConfig, EngineParts, ViewSource};
pub use engine::Engine;
pub use past::{Asked, Cluster, FilesRead, Past, PastFile, PastLimits, PastQuery, PastTable};
pub use problem::{EngineError, QueryError, ViewProblem};
pub use snapshot::{Prepared, QueryLimits, Snapshot};
pub use stats::EngineStats;
