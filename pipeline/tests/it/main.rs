//! Integration tests of the whole product, in one binary because each one links DataFusion again.

mod tidy;
