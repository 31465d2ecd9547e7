//! Requests as JSON lines with milliseconds since the start.

use std::path::Path;

use serde::Deserialize;

use super::LoadError;
use super::text::{read, wrong};

#[derive(Deserialize)]
struct Request {
    timestamp: i64,
}

/// Seconds since the start of each request, with one for each.
pub(super) fn json_lines(path: &Path) -> Result<Vec<(i64, f64)>, LoadError> {
    let event = |(place, line): (usize, &str)| {
        let request: Result<Request, _> = serde_json::from_str(line);
        request.map(|request| (request.timestamp / 1000, 1.0)).map_err(|_| wrong(path, place, line, "a request with a `timestamp`"))
    };
    read(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(event).collect()
}
