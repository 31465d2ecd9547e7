//! `increments`: what every counter and histogram grew by, second by second of event time.
//!
//! ```text
//! points   ──●────────────────●──────────────×(restart)────●──▶ time
//! growth     └── v − v_prev ──┘              └─ v, reset ──┘       each spread evenly over what it covers
//! ```
//!
//! Sums that only grow, delta sums, histograms of both kinds and summaries are differenced as `models::counter` says. What lies
//! between two delta points, or before the first point of an old series, is undefined: it has no row, and `covered_seconds`
//! lets a rate divide by the time that is known.
//!
//! Architecture invariants: at most `max_series` series are kept, the least recently seen leave first; a point gives at most
//! `max_slices` + 1 rows.

mod points;
mod rows;
mod series;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};

use self::points::Points;
use self::rows::Rows;
use self::series::{Observed, Series};
use super::columns::Columns;
use super::{Config, Counters, EncodeHistogram};
use crate::derive::{Derive, DeriveError};
use crate::hash::FastMap;

/// The operator.
#[derive(Debug)]
pub struct Increments {
    config: Config,
    encode: EncodeHistogram,
    counters: Arc<Counters>,
    series: FastMap<u64, Series>,
    watermark: i64,
    swept: i64,
}

// === impl Increments ===

impl Increments {
    /// A new operator; `encode` makes the histogram column.
    #[must_use]
    pub fn new(config: &Config, encode: EncodeHistogram, counters: Arc<Counters>) -> Self {
        Self { config: config.clone(), encode, counters, series: FastMap::default(), watermark: i64::MIN, swept: i64::MIN }
    }

    /// Series held now.
    #[must_use]
    pub fn held(&self) -> usize {
        self.series.len()
    }

    fn count(&self, observed: &Observed) {
        let counters = &self.counters;
        let counter = match observed {
            Observed::Grew(growth) if growth.is_reset => &counters.increments_resets,
            Observed::Grew(_) => return,
            Observed::Base => &counters.increments_base_points,
            Observed::Stale => &counters.increments_stale_points,
            Observed::Overlap(_) => &counters.increments_overlaps,
            Observed::Malformed => &counters.increments_malformed_points,
        };
        Counters::add(counter, 1);
    }

    /// Makes room by dropping the twentieth of the series that was seen least recently, so that the cost of finding them is
    /// shared by many insertions.
    fn evict(&mut self) {
        let mut seen: Vec<i64> = self.series.values().map(|series| series.seen).collect();
        let leaving = (seen.len() / 20).max(1).min(seen.len() - 1);
        let (_, cut, _) = seen.select_nth_unstable(leaving);
        let cut = *cut;
        let before = self.series.len();
        self.series.retain(|_, series| series.seen > cut);
        Counters::add(&self.counters.increments_evicted_series, u64::try_from(before - self.series.len()).unwrap_or(0));
    }
}

impl Derive for Increments {
    fn output(&self) -> Stream {
        Stream::Increments
    }

    fn inputs(&self) -> &'static [Stream] {
        &[Stream::Metrics]
    }

    fn push(&mut self, input: Stream, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeriveError> {
        let points = Points::new(Columns::new(input, batch))?;
        let mut rows = Rows::new(&self.config, self.encode);
        let fresh = nanos(self.config.fresh_series);
        for row in 0..batch.num_rows() {
            let Some((id, point)) = points.get(row) else { continue };
            let time = point.time();
            if !self.series.contains_key(&id) && self.series.len() >= self.config.max_series.max(1) {
                self.evict();
            }
            let series = self.series.entry(id).or_insert_with(|| Series::new(&point, time));
            let observed = series.observe(point, time, fresh);
            self.count(&observed);
            if let Observed::Grew(growth) | Observed::Overlap(Some(growth)) = observed {
                rows.push(row, &growth);
            }
        }
        Counters::add(&self.counters.increments_truncated_points, rows.truncated());
        rows.finish(points.columns())
    }

    fn advance(&mut self, watermark: Timestamp) -> Result<Vec<RecordBatch>, DeriveError> {
        self.watermark = self.watermark.max(watermark.as_nanos());
        let ttl = nanos(self.config.series_ttl);
        // Looking at every series is cheap once in a tenth of the time that they are kept.
        if self.watermark >= self.swept.saturating_add(ttl / 10) {
            self.swept = self.watermark;
            let oldest = self.watermark.saturating_sub(ttl);
            self.series.retain(|_, series| series.seen >= oldest);
        }
        Ok(Vec::new())
    }

    fn delay(&self) -> Duration {
        self.config.longest_spread
    }
}
