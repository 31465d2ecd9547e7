//! What the benchmarks are made of: a seeded OTLP generator, bodies that are encoded once and re-dated often, an
//! open-loop sender, and the measuring of processor time and memory.
//!
//! ```text
//! generate ─▶ body (encoded, re-dated, compressed) ─┬▶ decode · engine · rules, in this process
//!                                                   ├▶ spans (decoded, varied as columns) ─▶ archive · history
//!                                                   └▶ load (open loop) ─▶ a real server process ─▶ process (CPU, memory)
//! ```
//!
//! Architecture invariants: equal seeds give equal bytes. A sender never waits for the server: what could not be offered
//! in time is counted and said. Ratios are taken from runs that alternate.

pub mod body;
pub mod generate;
pub mod load;
pub mod measure;
pub mod process;
pub mod spans;
