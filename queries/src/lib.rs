//! SQL over streams: windows of rows become views, views feed rules.

pub mod derive;
