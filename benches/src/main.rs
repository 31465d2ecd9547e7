//! `tracescale-bench`: every figure in `benches/README.md`, one subcommand each.
fn main() {}
