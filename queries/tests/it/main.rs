//! Tests of the engine through its public interface, in one binary.

mod engine_basics;
mod engine_rows;
