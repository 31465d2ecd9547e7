//! What is kept: the write-ahead log, the Parquet archive, and the log of its commits.

pub mod wal;
