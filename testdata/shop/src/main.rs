//! TBD.
fn main() {}
