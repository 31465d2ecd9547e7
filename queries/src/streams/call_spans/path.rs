//! The critical path of a trace: how much of its root's duration each service is responsible for.
//!
//! ```text
//! root ├─────────────────────────┤    Walked backwards from the end: the child that ended last before the point that is
//! A       ├───────┤                   reached is what its parent waited for; where it began the walk goes on. What no
//! B            ├────────────┤         child covers is the parent's own. The times of all services add up to the root's
//! C                           ├─┤     duration. A ended while B still ran: nobody waited for it.
//! path rrrrrrrrBBBBBBBBBBBBBBrCCCr
//! ```
//!
//! Children are those of self time: who outlasts the root by more than the hold, begins after its parent's end or takes a message
//! from a queue was not waited for, and who sticks out of its parent is clipped to it. Clocks of two hosts only meet where a server
//! answers a client: a server span that does not lie within its client span is moved, with all below it, by the least that puts it
//! there (one that is longer begins with it).
//!
//! Architecture invariants: whole nanoseconds, so that sums do not depend on an order; each span is visited once; what the buffers
//! hold is bounded by [`LARGEST`]; an answer is complete or unknown, never a part.

use super::CallSpans;
use super::resolve::range;
use super::rows::Row;
use super::store::{Kind, Span};
use crate::streams::symbols::Symbol;
use crate::streams::{Counters, after};

/// Spans of a trace beyond which its path stays unknown.
pub(super) const LARGEST: usize = 10_000;
/// Roots of a trace beyond which their paths stay unknown: whoever begins so often under one id does not mean a trace by it.
const ROOTS: usize = 16;

/// Buffers that live as long as the operator.
#[derive(Debug, Default)]
pub(super) struct Walk {
    stack: Vec<Step>,
    /// Children of the span that is looked at.
    children: Vec<Step>,
    parts: Vec<Part>,
}

/// A span below the root, and the time in which somebody waited for it, by the root's clock: empty when nobody did.
#[derive(Clone, Copy, Debug)]
struct Step {
    place: u32,
    start: i64,
    end: i64,
    /// What has to be added to times of the span's clock.
    shift: i64,
    /// Traces that this one stands for, as far as it has been sampled down to here.
    count: f64,
}

/// What one span has of the path.
#[derive(Clone, Copy, Debug)]
struct Part {
    service: (Symbol, Symbol),
    time: i64,
    count: f64,
}

/// The spans of a trace by their parents and by their ids, and the end of the last that can matter to the root.
#[derive(Clone, Copy)]
struct Family<'a> {
    children: &'a [(u64, u32)],
    ids: &'a [(u64, u32)],
    latest: i64,
}

// === impl CallSpans ===

impl CallSpans {
    /// Says what each service had of the critical path of a root, if this span is one.
    pub(super) fn resolve_root(&mut self, place: u32, children: &[(u64, u32)], ids: &[(u64, u32)], walk: &mut Walk) {
        let root = *self.store.span(place);
        if !self.is_root(place, ids) {
            return;
        }
        let family = Family { children, ids, latest: after(root.end, self.config.call_hold) };
        if root.is_late || self.is_beyond(&root, family) {
            self.unknown_root(place, ids);
            return;
        }
        walk.parts.clear();
        let known = !self.has_gap(&root, family) && self.walk(place, family, walk);
        if !known {
            Counters::add(&self.counters.calls_unknown_paths, 1);
            let seen = children.iter().map(|(_, place)| self.store.span(*place)).filter(|span| family.is_within(&root, span));
            walk.parts.clear();
            walk.parts.extend(seen.map(|span| Part {
                service: (span.service, span.namespace),
                time: 0,
                count: root.count.max(span.count),
            }));
        }
        walk.parts.sort_unstable_by_key(|part| part.service);
        for parts in walk.parts.chunk_by(|left, right| left.service == right.service) {
            let time = parts.iter().map(|part| part.time).sum();
            let count = parts.iter().map(|part| part.count).fold(0.0, f64::max);
            self.rows.push(Row::path(&root, parts[0].service, count, known.then_some(time)));
        }
    }

    /// Says that the path of a root is not known, if this span is one.
    pub(super) fn unknown_root(&mut self, place: u32, ids: &[(u64, u32)]) {
        let root = *self.store.span(place);
        if self.is_root(place, ids) {
            Counters::add(&self.counters.calls_unknown_paths, 1);
            self.rows.push(Row::path(&root, (root.service, root.namespace), root.count, None));
        }
    }

    /// Whether a trace begins here. Nobody waits for what begins with a message.
    fn is_root(&self, place: u32, ids: &[(u64, u32)]) -> bool {
        let span = self.store.span(place);
        span.parent_id == 0 && span.kind != Kind::Producer && !self.is_twin(place, ids)
    }

    /// Whether this is the server side of a client that has the same id.
    fn is_twin(&self, place: u32, ids: &[(u64, u32)]) -> bool {
        let span = self.store.span(place);
        span.kind == Kind::Server && range(ids, span.span_id).iter().any(|(_, other)| self.store.span(*other).kind == Kind::Client)
    }

    /// Whether spans below the root may have been forgotten before it ended, or there are too many of them.
    fn is_beyond(&self, root: &Span, family: Family<'_>) -> bool {
        let longest = after(0, self.config.trace_ttl.saturating_sub(self.config.call_hold));
        let many = || family.children.iter().filter(|(_, place)| self.store.span(*place).end <= family.latest).count() > LARGEST;
        root.end.saturating_sub(root.start) > longest
            || range(family.children, 0).len() > ROOTS
            || (family.children.len() > LARGEST && many())
    }

    /// Whether the parent of a span that ran during the root is missing. Then somebody between them is, whose time others would get.
    fn has_gap(&self, root: &Span, family: Family<'_>) -> bool {
        family.children.chunk_by(|(left, _), (right, _)| left == right).any(|siblings| {
            let parent = siblings[0].0;
            let is_there = || range(family.ids, parent).iter().any(|(_, place)| self.store.span(*place).end <= family.latest);
            let concerned = |place| Some(self.store.span(place)).is_some_and(|span| family.is_within(root, span) && !is_delivered(span));
            parent != 0 && siblings.iter().any(|(_, place)| concerned(*place)) && !is_there()
        })
    }

    /// Gathers what every span below the root has of the path. False when ids occur so often that they form no tree.
    fn walk(&self, root: u32, family: Family<'_>, walk: &mut Walk) -> bool {
        let span = self.store.span(root);
        let mut left = family.children.len();
        walk.stack.clear();
        walk.stack.push(Step { place: root, start: span.start, end: span.end, shift: 0, count: span.count });
        while let Some(step) = walk.stack.pop() {
            self.gather_children(&step, family, &mut walk.children);
            let Some(rest) = left.checked_sub(walk.children.len()) else { return false };
            left = rest;
            let (mut own, mut current) = (0, step.end);
            for mut child in walk.children.drain(..) {
                if child.end <= current {
                    own += current - child.end;
                    current = child.start;
                } else {
                    child.end = child.start;
                }
                walk.stack.push(child);
            }
            let span = self.store.span(step.place);
            let time = own + (current - step.start);
            walk.parts.push(Part { service: (span.service, span.namespace), time, count: step.count });
        }
        true
    }

    /// The synchronous children of a span, the last to end first, of those the longest.
    fn gather_children(&self, step: &Step, family: Family<'_>, children: &mut Vec<Step>) {
        children.clear();
        let parent = self.store.span(step.place);
        if parent.kind == Kind::Client {
            // Where both sides of the call have one id, what is below the id is below the server side.
            let twins = range(family.ids, parent.span_id).iter().filter(|(_, place)| self.store.span(*place).kind == Kind::Server);
            children.extend(twins.filter_map(|(_, place)| self.child(step, *place, family.latest)));
        }
        if children.is_empty() {
            let below = range(family.children, parent.span_id).iter().filter(|(_, place)| !self.is_twin(*place, family.ids));
            children.extend(below.filter_map(|(_, place)| self.child(step, *place, family.latest)));
        }
        if step.end > step.start {
            let order = |child: &Step| (std::cmp::Reverse(child.end), child.start, self.store.span(child.place).span_id);
            children.sort_unstable_by_key(order);
        }
    }

    /// A child as its parent saw it; none when it was not waited for.
    fn child(&self, step: &Step, place: u32, latest: i64) -> Option<Step> {
        let (parent, child) = (self.store.span(step.place), self.store.span(place));
        let answers = parent.kind == Kind::Client && child.kind == Kind::Server;
        if place == step.place || child.end > latest || is_delivered(child) || (!answers && child.start > parent.end) {
            return None;
        }
        let shift = step.shift.saturating_add(if answers { offset(parent, child) } else { 0 });
        let clipped = |time: i64| time.saturating_add(shift).clamp(step.start, step.end);
        Some(Step { place, start: clipped(child.start), end: clipped(child.end), shift, count: step.count.max(child.count) })
    }
}

// === impl Family ===

impl Family<'_> {
    /// Whether a span ran, as far as its clock says, while the root did.
    fn is_within(&self, root: &Span, span: &Span) -> bool {
        span.end <= self.latest && span.end >= root.start && span.start <= root.end
    }
}

/// Whether a span began with a message that waited in a queue.
fn is_delivered(span: &Span) -> bool {
    span.kind == Kind::Consumer && span.is_entry
}

/// The least that a server span has to be moved by to lie within its client span; one that is longer begins with it.
fn offset(client: &Span, server: &Span) -> i64 {
    let (lowest, highest) = (client.start.saturating_sub(server.start), client.end.saturating_sub(server.end));
    if lowest <= highest { 0.clamp(lowest, highest) } else { lowest }
}
