//! Status documents with a cumulative count of requests: the increments, spread over the time that they cover.

use std::path::Path;

use serde::Deserialize;

use super::LoadError;
use super::text::{read, wrong};

#[derive(Deserialize)]
struct Status {
    timestamp: i64,
    requests: Requests,
}

#[derive(Deserialize)]
struct Requests {
    total: u64,
}

/// Increments of the request count per whole step between the first and the last document, with the start of each step. A count
/// that falls is a restart: what came before it is not known, and its interval is left out.
pub(super) fn increments(path: &Path, step: i64) -> Result<Vec<(i64, f64)>, LoadError> {
    let mut documents = Vec::new();
    for (place, line) in read(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let status: Status =
            serde_json::from_str(line).map_err(|_| wrong(path, place, line, "a status with `timestamp` and `requests.total`"))?;
        documents.push((status.timestamp, status.requests.total));
    }
    Ok(spread(&documents, step.max(1).saturating_mul(1000)))
}

/// Parts of each increment by the share of its interval that lies in a step; both ends in milliseconds. Steps that are not wholly
/// covered are left out.
fn spread(documents: &[(i64, u64)], step: i64) -> Vec<(i64, f64)> {
    let Some((start, _)) = documents.first().copied() else { return Vec::new() };
    let mut steps: Vec<(i64, f64, i64)> = Vec::new();
    for pair in documents.windows(2) {
        let ((from, before), (to, after)) = (pair[0], pair[1]);
        let Some(increment) = after.checked_sub(before).filter(|_| to > from) else { continue };
        let mut at = from;
        while at < to {
            let begin = start + (at - start) / step * step;
            let end = (begin + step).min(to);
            #[expect(clippy::cast_precision_loss, reason = "an increment and an interval of seconds are far below 2^52")]
            let part = increment as f64 * (end - at) as f64 / (to - from) as f64;
            match steps.last_mut() {
                Some((last, sum, covered)) if *last == begin => (*sum, *covered) = (*sum + part, *covered + end - at),
                _ => steps.push((begin, part, end - at)),
            }
            at = end;
        }
    }
    steps.into_iter().filter(|(_, _, covered)| *covered == step).map(|(begin, sum, _)| (begin / 1000, sum)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: increments are split over the steps that they cover, and a restart leaves a hole.
    #[test]
    fn increments_are_spread() {
        let found = spread(&[(0, 100), (15_000, 130), (20_000, 140), (30_000, 5), (40_000, 25)], 10_000);
        assert_eq!(found, [(0, 20.0), (10, 20.0), (30, 20.0)]);
        assert!(spread(&[], 10_000).is_empty());
    }
}
