//! SQL over streams: windows of rows become views, views feed rules.

mod attribute;
mod catalog;
pub mod config;
mod cursor;
pub mod derive;
pub mod engine;
mod feed;
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
mod slot;
pub mod snapshot;
mod statement;
pub mod stats;
mod surgery;
mod view;
mod watermark;
mod window;
