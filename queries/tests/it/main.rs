//! Tests of the engine through its public interface, in one binary.

mod engine_basics;
mod engine_bounds;
mod engine_cost;
mod engine_derived;
mod engine_oracle;
mod engine_rows;
