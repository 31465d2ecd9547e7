//! Tests of the queries crate through its public interface, in one binary because each links DataFusion.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_precision_loss,
    clippy::type_complexity,
    reason = "helpers of tests are tests, which clippy cannot see"
)]

mod critical_path;
mod engine_basics;
mod engine_bounds;
mod engine_cost;
mod engine_derived;
mod engine_oracle;
mod engine_rows;
mod judgement;
mod judgement_demand;
mod past;
mod past_cluster;
mod queries_refused;
mod streams_docs;
mod streams_engine;
mod streams_sql;
