//! CPU and memory of one replica from its usage.
