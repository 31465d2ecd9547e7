//! The open traces: spans in a slab, one linked list per trace, traces by the time at which something is to be done.

use std::collections::BTreeMap;

use crate::hash::FastMap;
use crate::streams::symbols::Symbol;

/// End of a list.
pub(super) const NONE: u32 = u32::MAX;
const SECOND: i64 = 1_000_000_000;
/// Spans of one trace that a new span is compared with when it arrives. Larger traces are paired once, when they are due.
pub(super) const SCANNED: u32 = 256;
/// Traces that are warmed together: their spans fit the innermost cache.
pub(super) const WARMED: usize = 32;

/// The part of `SpanKind` that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Server,
    Client,
    Producer,
    Consumer,
    Local,
}

/// What is known about one span that waits for something. 72 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) span_id: u64,
    /// Zero when the span is a root.
    pub(super) parent_id: u64,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) count: f64,
    pub(super) service: Symbol,
    pub(super) namespace: Symbol,
    pub(super) operation: Symbol,
    /// What a client says about the other side, for when no span of it is seen.
    pub(super) peer: Symbol,
    next: u32,
    pub(super) kind: Kind,
    pub(super) is_entry: bool,
    pub(super) is_error: bool,
    /// Paired with its other side.
    pub(super) matched: bool,
    /// Nothing is left to say about it; kept for the spans around it.
    pub(super) resolved: bool,
    /// A root that came when spans which may have been below it were forgotten already.
    pub(super) is_late: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Trace {
    pub(super) head: u32,
    pub(super) spans: u32,
    /// The second in whose list the trace is.
    due: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    slab: Vec<Span>,
    free: u32,
    live: usize,
    traces: FastMap<u128, Trace>,
    schedule: BTreeMap<i64, Vec<u128>>,
    /// Memory of [`Store::warm`].
    warming: Vec<u32>,
}

// === impl Span ===

impl Span {
    pub(super) fn new(
        ids: (u64, u64),
        times: (i64, i64),
        count: f64,
        names: [Symbol; 4],
        kind: Kind,
        is_entry: bool,
        is_error: bool,
    ) -> Self {
        let [service, namespace, operation, peer] = names;
        Self {
            span_id: ids.0,
            parent_id: ids.1,
            start: times.0.min(times.1),
            end: times.1,
            count,
            service,
            namespace,
            operation,
            peer,
            next: NONE,
            kind,
            is_entry,
            is_error,
            matched: false,
            resolved: false,
            is_late: false,
        }
    }
}

// === impl Trace ===

impl Trace {
    /// Makes the trace due at `deadline`, unless it is earlier. The second in whose list it belongs from now on.
    fn due_at(&mut self, deadline: i64) -> Option<i64> {
        let second = (deadline.div_euclid(SECOND) + 1).min(i64::MAX.div_euclid(SECOND));
        let earlier = second < self.due;
        self.due = self.due.min(second);
        earlier.then_some(second)
    }
}

// === impl Store ===

impl Default for Store {
    fn default() -> Self {
        Self { slab: Vec::new(), free: NONE, live: 0, traces: FastMap::default(), schedule: BTreeMap::new(), warming: Vec::new() }
    }
}

impl Store {
    /// Spans held.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Traces held.
    pub(super) fn traces(&self) -> usize {
        self.traces.len()
    }

    pub(super) fn span(&self, place: u32) -> &Span {
        &self.slab[place as usize]
    }

    pub(super) fn span_mut(&mut self, place: u32) -> &mut Span {
        &mut self.slab[place as usize]
    }

    pub(super) fn trace(&self, id: u128) -> Option<Trace> {
        self.traces.get(&id).copied()
    }

    /// The places of a trace's spans, newest first.
    pub(super) fn places(&self, trace: Trace) -> impl Iterator<Item = u32> + '_ {
        let mut at = trace.head;
        std::iter::from_fn(move || {
            let place = at;
            at = self.slab.get(place as usize)?.next;
            Some(place)
        })
    }

    /// Brings the spans of these traces into the caches.
    pub(super) fn warm(&mut self, ids: impl Iterator<Item = u128>) {
        warm(&self.traces, &self.slab, ids, &mut self.warming);
    }

    /// Keeps a span; something is to be done about it at `deadline`. Returns its place.
    pub(super) fn insert(&mut self, id: u128, mut span: Span, deadline: i64) -> u32 {
        let trace = self.traces.entry(id).or_insert(Trace { head: NONE, spans: 0, due: i64::MAX });
        span.next = trace.head;
        let place = if self.free == NONE {
            self.slab.push(span);
            u32::try_from(self.slab.len() - 1).unwrap_or(NONE)
        } else {
            let place = self.free;
            self.free = std::mem::replace(&mut self.slab[place as usize], span).next;
            place
        };
        trace.head = place;
        trace.spans += 1;
        self.live += 1;
        if let Some(second) = trace.due_at(deadline) {
            self.schedule.entry(second).or_default().push(id);
        }
        place
    }

    /// Asks for the trace to be looked at no later than `deadline`.
    pub(super) fn schedule(&mut self, id: u128, deadline: i64) {
        if let Some(second) = self.traces.get_mut(&id).and_then(|trace| trace.due_at(deadline)) {
            self.schedule.entry(second).or_default().push(id);
        }
    }

    /// A trace that is due at `now`, the most overdue first. It must be rescheduled or removed.
    pub(super) fn pop_due(&mut self, now: i64) -> Option<u128> {
        loop {
            let mut first = self.schedule.first_entry()?;
            let second = *first.key();
            if second > now.div_euclid(SECOND) {
                return None;
            }
            if first.get().len().is_multiple_of(WARMED) {
                warm(&self.traces, &self.slab, first.get().iter().rev().take(WARMED).copied(), &mut self.warming);
            }
            let Some(id) = first.get_mut().pop() else {
                first.remove();
                continue;
            };
            // Entries that an earlier deadline has overtaken are left in the lists and skipped here.
            if let Some(trace) = self.traces.get_mut(&id).filter(|trace| trace.due == second) {
                trace.due = i64::MAX;
                return Some(id);
            }
        }
    }

    /// Removes the spans of a trace for which `keep` says no; removes the trace with its last span. Returns how many left.
    pub(super) fn retain(&mut self, id: u128, mut keep: impl FnMut(&Span) -> bool) -> usize {
        let Some(trace) = self.traces.get_mut(&id) else { return 0 };
        let (mut at, mut previous, mut removed) = (trace.head, NONE, 0);
        while at != NONE {
            let next = self.slab[at as usize].next;
            if keep(&self.slab[at as usize]) {
                previous = at;
            } else {
                if previous == NONE {
                    trace.head = next;
                } else {
                    self.slab[previous as usize].next = next;
                }
                self.slab[at as usize].next = self.free;
                self.free = at;
                trace.spans -= 1;
                removed += 1;
            }
            at = next;
        }
        if trace.head == NONE {
            self.traces.remove(&id);
        }
        self.live -= removed;
        removed
    }

    /// Every span held.
    pub(super) fn for_each(&mut self, mut visit: impl FnMut(&mut Span)) {
        for trace in self.traces.values() {
            let mut at = trace.head;
            while let Some(span) = self.slab.get_mut(at as usize) {
                visit(span);
                at = span.next;
            }
        }
    }
}

/// Visits every span of these traces. Spans have waited for seconds among millions, and each is found through the one before:
/// asked for trace by trace, most of the time goes by waiting for memory. Asked for side by side, they come together.
fn warm(traces: &FastMap<u128, Trace>, slab: &[Span], ids: impl Iterator<Item = u128>, at: &mut Vec<u32>) {
    at.clear();
    at.extend(ids.filter_map(|id| traces.get(&id)).filter(|trace| trace.spans <= SCANNED).map(|trace| trace.head));
    while !at.is_empty() {
        at.retain_mut(|place| {
            *place = slab.get(*place as usize).map_or(NONE, |span| span.next);
            *place != NONE
        });
    }
}
