//! SQL over streams: windows of rows become views, views feed rules.

pub mod derive;
pub mod functions;
pub mod streams;
