//! The `tracescale` binary.

use std::process::ExitCode;

/// Decoding allocates much and frees soon; mimalloc makes it half as fast again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracescale::cli::main()
}
