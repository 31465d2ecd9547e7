//! Span links that wait for their consumer span: batch consumers point at their messages by link instead of by parent.

use arrow::array::{Array, RecordBatch};
use tracescale_core::schema::Stream;

use crate::derive::DeriveError;
use crate::hash::FastMap;
use crate::streams::columns::{Columns, span_id, trace_id};

/// A span by trace and span id.
pub(super) type SpanKey = (u128, u64);

/// Links by the span that has them.
#[derive(Debug)]
pub(super) struct Links {
    max: usize,
    held: usize,
    by_span: FastMap<SpanKey, Linked>,
    expired_until: i64,
}

#[derive(Debug)]
struct Linked {
    end: i64,
    targets: Vec<SpanKey>,
}

// === impl Links ===

impl Links {
    pub(super) fn new(max: usize) -> Self {
        Self { max, held: 0, by_span: FastMap::default(), expired_until: i64::MIN }
    }

    /// Keeps the links of a `span_links` batch; returns how many found no room.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<u64, DeriveError> {
        let columns = Columns::new(Stream::SpanLinks, batch);
        let (traces, spans) = (columns.ids("trace_id")?, columns.ids("span_id")?);
        let (linked_traces, linked_spans) = (columns.ids("linked_trace_id")?, columns.ids("linked_span_id")?);
        let ends = columns.times("end_time")?.values();
        let mut dropped = 0;
        for row in 0..traces.len() {
            if self.held >= self.max {
                dropped += 1;
                continue;
            }
            let key = (trace_id(traces.value(row)), span_id(spans.value(row)));
            let target = (trace_id(linked_traces.value(row)), span_id(linked_spans.value(row)));
            let linked = self.by_span.entry(key).or_insert(Linked { end: ends[row], targets: Vec::new() });
            if !linked.targets.contains(&target) {
                linked.targets.push(target);
                self.held += 1;
            }
        }
        Ok(dropped)
    }

    /// Takes the links of a span.
    pub(super) fn take(&mut self, span: SpanKey) -> Vec<SpanKey> {
        let Some(linked) = self.by_span.remove(&span) else { return Vec::new() };
        self.held -= linked.targets.len();
        linked.targets
    }

    /// Forgets links whose span ended more than `after` nanoseconds before the watermark; at most once per second of it.
    pub(super) fn expire(&mut self, watermark: i64, after: i64) {
        if watermark < self.expired_until.saturating_add(1_000_000_000) || self.by_span.is_empty() {
            return;
        }
        self.expired_until = watermark;
        let held = &mut self.held;
        self.by_span.retain(|_, linked| {
            let keep = linked.end.saturating_add(after) > watermark;
            *held -= if keep { 0 } else { linked.targets.len() };
            keep
        });
    }
}
