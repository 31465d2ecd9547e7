//! `activity`: how busy every service instance was in each second, by integration over its entry spans.
//!
//! ```text
//! span  ├────────────────┤      seconds  [ . ][ . ][ . ]
//!       arrival          completion      busy  .7   1   .4     Σ busy / window = time-average concurrency
//! ```
//!
//! A batch is folded to one row per (instance, second) before it leaves, so that the windows above see seconds, not spans. The
//! operator keeps nothing between batches: sums of sums are the sums.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampNanosecondArray};
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};

use super::columns::{Columns, Text, assemble, failed};
use super::{Config, Counters, seconds};
use crate::derive::{Derive, DeriveError};
use crate::hash::FastMap;

const SECOND: i64 = 1_000_000_000;

/// The operator.
#[derive(Debug)]
pub struct Activity {
    longest_span: i64,
    delay: Duration,
    counters: Arc<Counters>,
}

/// Sums of one instance and second.
#[derive(Clone, Copy, Default)]
struct Slice {
    group: u32,
    second: i64,
    arrivals: f64,
    completions: f64,
    busy_seconds: f64,
    completed_seconds: f64,
    spans: i64,
    squares: f64,
}

/// The slices of one batch.
#[derive(Default)]
struct Slices {
    /// Dictionary codes (service, namespace, instance) of each group.
    groups: Vec<[i32; 3]>,
    by_codes: FastMap<(i32, i32, i32), u32>,
    slices: Vec<Slice>,
    by_key: FastMap<(u32, i64), usize>,
    /// The slice that was touched last: neighbouring spans are of the same instance and second.
    recent: Option<usize>,
}

// === impl Activity ===

impl Activity {
    /// A new operator.
    #[must_use]
    pub fn new(config: &Config, counters: Arc<Counters>) -> Self {
        Self { longest_span: nanos(config.longest_span).max(SECOND), delay: config.longest_span, counters }
    }

    fn fold(&self, columns: Columns<'_>, names: &[Text<'_>; 3]) -> Result<Slices, DeriveError> {
        let (starts, ends) = (columns.times("start_time")?.values(), columns.times("end_time")?.values());
        let counts = columns.floats("adjusted_count")?.values();
        let entries = columns.booleans("is_entry")?;
        let mut slices = Slices::default();
        let mut truncated = 0;
        for row in 0..entries.len() {
            if !entries.value(row) {
                continue;
            }
            let group = slices.group(names.map(|name| name.code(row)));
            truncated += u64::from(self.span(&mut slices, group, starts[row].min(ends[row]), ends[row], counts[row]));
        }
        Counters::add(&self.counters.activity_truncated_spans, truncated);
        Ok(slices)
    }

    /// Adds one span; says whether it was cut.
    fn span(&self, slices: &mut Slices, group: u32, start: i64, end: i64, count: f64) -> bool {
        let from = start.max(end.saturating_sub(self.longest_span));
        let (first, last) = (from.div_euclid(SECOND), end.div_euclid(SECOND));
        for second in first..=last {
            let begin = second.saturating_mul(SECOND);
            let overlap = end.min(begin.saturating_add(SECOND)).saturating_sub(from.max(begin));
            slices.at(group, second).busy_seconds += count * seconds(overlap.max(0));
        }
        // The arrival of a span that was cut lies before anything that is still open: it is counted, not misplaced.
        let truncated = from > start;
        if !truncated {
            slices.at(group, first).arrivals += count;
        }
        let slice = slices.at(group, last);
        slice.completions += count;
        slice.completed_seconds += count * seconds(end.saturating_sub(start));
        slice.spans += 1;
        slice.squares += count * count;
        truncated
    }
}

impl Derive for Activity {
    fn output(&self) -> Stream {
        Stream::Activity
    }

    fn inputs(&self) -> &'static [Stream] {
        &[Stream::Spans]
    }

    fn push(&mut self, input: Stream, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeriveError> {
        let columns = Columns::new(input, batch);
        let names = [columns.text("service_name")?, columns.text("service_namespace")?, columns.text("service_instance_id")?];
        let slices = self.fold(columns, &names)?;
        if slices.slices.is_empty() { Ok(Vec::new()) } else { Ok(vec![slices.finish(&names)?]) }
    }

    fn advance(&mut self, _: Timestamp) -> Result<Vec<RecordBatch>, DeriveError> {
        Ok(Vec::new())
    }

    fn delay(&self) -> Duration {
        self.delay
    }
}

// === impl Slices ===

impl Slices {
    fn group(&mut self, codes: [i32; 3]) -> u32 {
        if let Some(recent) = self.recent.map(|recent| self.slices[recent].group).filter(|group| self.groups[*group as usize] == codes) {
            return recent;
        }
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let [service, namespace, instance] = codes;
        let group = *self.by_codes.entry((service, namespace, instance)).or_insert(next);
        if group == next {
            self.groups.push(codes);
        }
        group
    }

    fn at(&mut self, group: u32, second: i64) -> &mut Slice {
        let place = match self.recent {
            Some(recent) if self.slices[recent].group == group && self.slices[recent].second == second => recent,
            _ => {
                let next = self.slices.len();
                let place = *self.by_key.entry((group, second)).or_insert(next);
                if place == next {
                    self.slices.push(Slice { group, second, ..Slice::default() });
                }
                self.recent = Some(place);
                place
            }
        };
        &mut self.slices[place]
    }

    fn finish(self, names: &[Text<'_>; 3]) -> Result<RecordBatch, DeriveError> {
        let slices = &self.slices;
        let float = |column: fn(&Slice) -> f64| -> ArrayRef { Arc::new(Float64Array::from_iter_values(slices.iter().map(column))) };
        let name = |place: usize| {
            let codes = slices.iter().map(|slice| self.groups[slice.group as usize][place]);
            names[place].recoded(codes).map_err(|source| failed(Stream::Activity, source))
        };
        let times = slices.iter().map(|slice| slice.second.saturating_mul(SECOND));
        assemble(
            Stream::Activity,
            vec![
                Arc::new(TimestampNanosecondArray::from_iter_values(times)),
                name(0)?,
                name(1)?,
                name(2)?,
                float(|slice| slice.arrivals),
                float(|slice| slice.completions),
                float(|slice| slice.busy_seconds),
                float(|slice| slice.completed_seconds),
                Arc::new(Int64Array::from_iter_values(slices.iter().map(|slice| slice.spans))),
                float(|slice| slice.squares),
            ],
        )
    }
}
