//! What is said about a trace once its time has come: unmatched calls, self times, what may be forgotten.

use tracescale_models::interval::{self, self_time};

use super::CallSpans;
use super::links::SpanKey;
use super::path::Walk;
use super::rows::{Row, duration};
use super::store::{Kind, SCANNED, Span};
use crate::streams::{Counters, after, seconds};

/// Buffers that live as long as the operator, so that resolving a trace allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) found: Vec<u32>,
    places: Vec<u32>,
    /// (parent id, place) in order: the children of a span are a range of it.
    children: Vec<(u64, u32)>,
    /// (span id, place) in order.
    ids: Vec<(u64, u32)>,
    stack: Vec<u64>,
    intervals: Vec<interval::Span>,
    walk: Walk,
}

// === impl CallSpans ===

impl CallSpans {
    /// Says all that can be said about a trace at the current watermark, and forgets what nobody needs any more.
    pub(super) fn resolve(&mut self, id: u128) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.index(id, &mut scratch);
        if scratch.places.len() > SCANNED as usize {
            self.pair_large(&scratch);
        }
        for place in &scratch.places {
            let span = *self.store.span(*place);
            if !span.resolved && self.deadline(&span) <= self.watermark {
                self.resolve_span(id, *place, &mut (&mut scratch.stack, &mut scratch.intervals), &scratch.children, &scratch.ids);
                self.resolve_root(*place, &scratch.children, &scratch.ids, &mut scratch.walk);
                self.store.span_mut(*place).resolved = true;
            }
        }
        let complete = self.is_complete(&scratch);
        self.scratch = scratch;
        self.forget(id, complete);
    }

    /// Says what is known about a trace that has to leave early. A trace without a missing parent has most likely ended, so its
    /// self times and its path are as good as they would be later; of any other they are unknown rather than too long.
    pub(super) fn evict(&mut self, id: u128) {
        let mut scratch = std::mem::take(&mut self.scratch);
        self.index(id, &mut scratch);
        let whole = scratch.places.iter().all(|place| Self::has_parent(&scratch, self.store.span(*place)));
        if whole {
            self.pair_large(&scratch);
        }
        for place in &scratch.places {
            let span = *self.store.span(*place);
            if !whole {
                // A broken clock must not spoil the roots to come.
                self.forgotten_until = self.forgotten_until.max(span.end.min(after(self.watermark, self.config.call_hold)));
            }
            if span.resolved {
                continue;
            }
            if whole {
                self.resolve_span(id, *place, &mut (&mut scratch.stack, &mut scratch.intervals), &scratch.children, &scratch.ids);
                self.resolve_root(*place, &scratch.children, &scratch.ids, &mut scratch.walk);
                continue;
            }
            if span.is_entry {
                self.rows.push(Row::entry(&span, span.matched, None));
            }
            self.unknown_root(*place, &scratch.ids);
            if matches!(span.kind, Kind::Client | Kind::Producer) && !span.matched {
                self.rows.push(Row::unmatched(&span, span.end.max(self.watermark)));
            }
        }
        self.scratch = scratch;
        let evicted = u64::try_from(self.store.retain(id, |_| false)).unwrap_or(u64::MAX);
        Counters::add(if whole { &self.counters.calls_early_spans } else { &self.counters.calls_evicted_spans }, evicted);
    }

    /// Whether a span is a root or its parent is here.
    fn has_parent(scratch: &Scratch, span: &Span) -> bool {
        span.parent_id == 0 || !range(&scratch.ids, span.parent_id).is_empty()
    }

    fn index(&self, id: u128, scratch: &mut Scratch) {
        scratch.places.clear();
        scratch.children.clear();
        scratch.ids.clear();
        let Some(trace) = self.store.trace(id) else { return };
        for place in self.store.places(trace) {
            let span = self.store.span(place);
            scratch.places.push(place);
            scratch.children.push((span.parent_id, place));
            scratch.ids.push((span.span_id, place));
        }
        scratch.children.sort_unstable();
        scratch.ids.sort_unstable();
    }

    /// Pairs the spans of a trace that was too large to be scanned whenever one of its spans came.
    fn pair_large(&mut self, scratch: &Scratch) {
        for (parent, place) in &scratch.children {
            let server = *self.store.span(*place);
            if server.matched || !matches!(server.kind, Kind::Server | Kind::Consumer) {
                continue;
            }
            for (_, other) in range(&scratch.ids, *parent).iter().chain(range(&scratch.ids, server.span_id)) {
                if self.is_pair(self.store.span(*other), &server) {
                    self.pair(*other, *place);
                    break;
                }
            }
        }
    }

    fn resolve_span(
        &mut self,
        id: u128,
        place: u32,
        buffers: &mut (&mut Vec<u64>, &mut Vec<interval::Span>),
        children: &[(u64, u32)],
        ids: &[(u64, u32)],
    ) {
        if self.store.span(place).kind == Kind::Consumer && self.store.span(place).is_entry {
            self.pair_linked(id, place);
        }
        let span = *self.store.span(place);
        match span.kind {
            Kind::Client if !span.matched => self.rows.push(Row::unmatched(&span, span.end)),
            // Whether the message was ever delivered is only known now, so that is its event time.
            Kind::Producer if !span.matched => self.rows.push(Row::unmatched(&span, self.deadline(&span))),
            _ => {}
        }
        if !span.is_entry {
            return;
        }
        let orphan = span.parent_id != 0 && !span.matched && range(ids, span.parent_id).is_empty();
        Counters::add(&self.counters.calls_missing_parents, u64::from(orphan));
        let known = span.end.saturating_sub(span.start) <= after(0, self.config.trace_ttl);
        Counters::add(&self.counters.calls_long_entries, u64::from(!known));
        let own = known.then(|| self.own_time(&span, buffers, children));
        self.rows.push(Row::entry(&span, span.matched, own));
    }

    /// Duration of an entry span without the union of the calls that it and the local spans below it made.
    fn own_time(&self, entry: &Span, buffers: &mut (&mut Vec<u64>, &mut Vec<interval::Span>), children: &[(u64, u32)]) -> f64 {
        let (stack, intervals) = (&mut *buffers.0, &mut *buffers.1);
        intervals.clear();
        stack.clear();
        stack.push(entry.span_id);
        // Ids that form a circle would keep us here for ever.
        let mut steps = children.len();
        let latest = after(entry.end, self.config.call_hold);
        while let Some(parent) = stack.pop() {
            for (_, place) in range(children, parent) {
                let child = self.store.span(*place);
                // Whoever outlasts the entry was not waited for, and may not be here yet.
                if child.end > latest {
                    continue;
                }
                let local = child.service == entry.service && child.namespace == entry.namespace;
                match child.kind {
                    Kind::Client | Kind::Producer => intervals.push(relative(entry, child)),
                    // Nobody waits for a consumer; a nested one is part of the entry's own work.
                    Kind::Consumer if child.is_entry => {}
                    // The client side is not instrumented: the server side is the best that is known about the call.
                    Kind::Server if child.is_entry => intervals.push(relative(entry, child)),
                    _ if local && steps > 0 => {
                        steps -= 1;
                        stack.push(child.span_id);
                    }
                    _ => {}
                }
            }
        }
        self_time(interval::Span { start: 0.0, end: duration(entry) }, intervals)
    }

    /// Pairs a consumer span with the messages that its links name.
    fn pair_linked(&mut self, id: u128, place: u32) {
        let consumer = *self.store.span(place);
        for key in self.links.take((id, consumer.span_id)) {
            // The parent was paired when it came.
            if key == (id, consumer.parent_id) {
                continue;
            }
            if let Some(found) = self.producer(key).filter(|found| self.is_delivery(self.store.span(*found), &consumer)) {
                self.pair(found, place);
            }
        }
    }

    fn producer(&self, (id, span_id): SpanKey) -> Option<u32> {
        let trace = self.store.trace(id)?;
        self.store.places(trace).find(|place| {
            let span = self.store.span(*place);
            span.span_id == span_id && span.kind == Kind::Producer
        })
    }

    /// Whether nothing that is still running can have its children here: every span but a message has been dealt with, and
    /// no parent is missing.
    fn is_complete(&self, scratch: &Scratch) -> bool {
        scratch.places.iter().all(|place| {
            let span = self.store.span(*place);
            (span.resolved || span.kind == Kind::Producer) && Self::has_parent(scratch, span)
        })
    }

    /// Drops the spans that are of no more use and asks to come back for the rest.
    fn forget(&mut self, id: u128, complete: bool) {
        let mut store = std::mem::take(&mut self.store);
        let (mut next, mut forgotten) = (i64::MAX, self.forgotten_until);
        store.retain(id, |span| {
            let expiry = self.expiry(span);
            if span.resolved && (complete || expiry <= self.watermark) {
                forgotten = if complete { forgotten } else { forgotten.max(span.end) };
                return false;
            }
            next = next.min(if span.resolved { expiry } else { self.deadline(span) });
            true
        });
        store.schedule(id, next);
        self.store = store;
        self.forgotten_until = forgotten;
    }
}

/// The part of an ordered list that has this key.
pub(super) fn range(list: &[(u64, u32)], key: u64) -> &[(u64, u32)] {
    let from = list.partition_point(|(found, _)| *found < key);
    let length = list[from..].partition_point(|(found, _)| *found == key);
    &list[from..from + length]
}

/// When a child ran, in seconds since its ancestor began.
fn relative(ancestor: &Span, child: &Span) -> interval::Span {
    interval::Span { start: seconds(child.start.saturating_sub(ancestor.start)), end: seconds(child.end.saturating_sub(ancestor.start)) }
}
