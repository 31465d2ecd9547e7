//! Integration tests of the queries crate, in one binary because each links DataFusion.

mod streams_docs;
mod streams_sql;
