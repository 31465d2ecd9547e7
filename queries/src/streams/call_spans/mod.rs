//! `call_spans`: both sides of every call between services, how long each service worked itself, and what each had of the
//! critical path of a trace.
//!
//! ```text
//! client ├──────────────────┤  wait = client − server duration      entry ├─────────────────┤  self time = entry without
//! server    ├───────────┤      (network and queues in front)        calls    ├───┤ ├────┤      the union of its calls
//!
//! producer ├─┤ ·· queue ·· consumer ├────┤  wait = consumer start − producer end
//! ```
//!
//! A row leaves as soon as both sides are there. A client whose server stays unseen leaves as unmatched once the watermark has
//! passed its end by the hold; a message waits longer, and when it is given up its event time is that moment. Self time needs
//! every child: children end before their parent, so it is known when the watermark has passed the parent's end by the hold. The
//! critical path is known when the same is true of the root.
//!
//! Architecture invariants: at most `max_spans` spans are kept; whichever order rows arrive in within lateness, the rows that leave
//! are the same.

mod links;
mod path;
mod resolve;
mod rows;
mod store;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, RecordBatch};
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

use self::links::Links;
use self::rows::Row;
use self::store::{Kind, SCANNED, Span, Store, WARMED};
use super::columns::{Columns, span_id, trace_id};
use super::symbols::{Coded, Symbol, Symbols};
use super::{Config, Counters, after};
use crate::derive::{Derive, DeriveError};

/// Spans that end this long after the watermark come from a broken clock; they would stay until the store is full.
const FUTURE: Duration = Duration::from_secs(600);
/// Strings after which unused ones are looked for.
const SYMBOLS: usize = 16_384;

/// The operator.
#[derive(Debug)]
pub struct CallSpans {
    config: Config,
    counters: Arc<Counters>,
    store: Store,
    links: Links,
    symbols: Symbols,
    /// Look for unused strings when there are more than this.
    symbol_limit: usize,
    watermark: i64,
    /// The newest end of a span that was forgotten before all of its trace was there.
    forgotten_until: i64,
    rows: Vec<Row>,
    scratch: resolve::Scratch,
}

/// The columns of `spans` that are read here.
struct SpanColumns<'a> {
    /// Service, namespace.
    resource: [Coded<'a>; 2],
    /// Route, method, destination, name: the first that is there names the operation.
    operation: [Coded<'a>; 4],
    /// Peer service, database, destination, address: the first that is there names the other side.
    peer: [Coded<'a>; 4],
    /// Kind by dictionary code.
    kinds: Vec<Kind>,
}

// === impl CallSpans ===

impl CallSpans {
    /// A new operator.
    #[must_use]
    pub fn new(config: &Config, counters: Arc<Counters>) -> Self {
        Self {
            config: config.clone(),
            counters,
            store: Store::default(),
            links: Links::new(config.max_links),
            symbols: Symbols::default(),
            symbol_limit: SYMBOLS,
            watermark: i64::MIN,
            forgotten_until: i64::MIN,
            rows: Vec::new(),
            scratch: resolve::Scratch::default(),
        }
    }

    /// Spans and traces held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.store.live(), self.store.traces())
    }

    /// Strings held now.
    #[must_use]
    pub fn names(&self) -> usize {
        self.symbols.len()
    }

    fn push_spans(&mut self, batch: &RecordBatch) -> Result<(), DeriveError> {
        let columns = Columns::new(Stream::Spans, batch);
        let (traces, ids, parents) = (columns.ids("trace_id")?, columns.ids("span_id")?, columns.ids("parent_span_id")?);
        let (starts, ends) = (columns.times("start_time")?.values(), columns.times("end_time")?.values());
        let counts = columns.floats("adjusted_count")?.values();
        let (entries, errors) = (columns.booleans("is_entry")?, columns.booleans("is_error")?);
        let kinds = columns.text("kind")?;
        let mut strings = SpanColumns::new(columns)?;
        for row in 0..batch.num_rows() {
            if row.is_multiple_of(WARMED) {
                self.store.warm((row..traces.len().min(row + WARMED)).map(|row| trace_id(traces.value(row))));
            }
            let kind = usize::try_from(kinds.code(row)).ok().and_then(|code| strings.kinds.get(code).copied()).unwrap_or(Kind::Local);
            let parent = if parents.is_null(row) { 0 } else { span_id(parents.value(row)) };
            let names = strings.names(&mut self.symbols, row, kind, parent == 0);
            let ids = (span_id(ids.value(row)), parent);
            let span = Span::new(ids, (starts[row], ends[row]), counts[row], names, kind, entries.value(row), errors.value(row));
            self.insert(trace_id(traces.value(row)), span);
        }
        Ok(())
    }

    /// Keeps one span and pairs it with what is there already.
    fn insert(&mut self, id: u128, mut span: Span) {
        if self.watermark > i64::MIN && span.end > after(self.watermark, FUTURE) {
            Counters::add(&self.counters.calls_future_spans, 1);
            return;
        }
        while self.store.live() >= self.config.max_spans.max(1) {
            let Some(oldest) = self.store.pop_due(i64::MAX) else { break };
            self.evict(oldest);
        }
        span.is_late = span.parent_id == 0 && span.start < self.forgotten_until;
        let Some(trace) = self.store.trace(id).filter(|trace| trace.spans <= SCANNED) else {
            self.store.insert(id, span, self.deadline(&span));
            return;
        };
        // Several pairs are possible: a call that was tried twice has two servers, a message two consumers.
        let mut found = std::mem::take(&mut self.scratch.found);
        found.clear();
        let mut duplicate = false;
        for place in self.store.places(trace) {
            let other = self.store.span(place);
            duplicate |= other.span_id == span.span_id && other.kind == span.kind;
            if self.is_pair(&span, other) || self.is_pair(other, &span) {
                found.push(place);
            }
        }
        if duplicate {
            Counters::add(&self.counters.calls_duplicate_spans, 1);
        } else {
            let place = self.store.insert(id, span, self.deadline(&span));
            for other in &found {
                self.pair(place, *other);
            }
        }
        self.scratch.found = found;
    }

    /// Whether `server` is the other side of `client`.
    fn is_pair(&self, client: &Span, server: &Span) -> bool {
        // What has been reported as unmatched stays so: a call is never counted twice.
        if client.resolved && !client.matched {
            return false;
        }
        let asynchronous = match (client.kind, server.kind) {
            (Kind::Client, Kind::Server) => false,
            (Kind::Producer, Kind::Consumer) => true,
            _ => return false,
        };
        // Zipkin lets both sides share one span id.
        let related = server.parent_id == client.span_id || (!asynchronous && server.span_id == client.span_id);
        related && (!asynchronous || self.is_delivery(client, server))
    }

    /// Whether a consumer span came soon enough after its message, and is not nested in another consumer span.
    fn is_delivery(&self, producer: &Span, consumer: &Span) -> bool {
        consumer.is_entry && consumer.end <= after(producer.end, self.config.message_ttl)
    }

    /// Writes the row of two sides, in whichever order.
    fn pair(&mut self, left: u32, right: u32) {
        let is_client = |place| matches!(self.store.span(place).kind, Kind::Client | Kind::Producer);
        let (client, server) = if is_client(left) { (left, right) } else { (right, left) };
        self.store.span_mut(client).matched = true;
        self.store.span_mut(server).matched = true;
        let (client, server) = (*self.store.span(client), *self.store.span(server));
        self.pair_spans(&client, &server);
    }

    fn pair_spans(&mut self, client: &Span, server: &Span) {
        let row = if client.kind == Kind::Producer {
            Row::matched(client, server, server.end, server.start.saturating_sub(client.end))
        } else {
            let wait = client.end.saturating_sub(client.start).saturating_sub(server.end.saturating_sub(server.start));
            Counters::add(&self.counters.calls_negative_waits, u64::from(wait < 0));
            Row::matched(client, server, client.end, wait)
        };
        self.rows.push(row);
    }

    /// When everything about a span is known that can be.
    fn deadline(&self, span: &Span) -> i64 {
        if span.kind == Kind::Producer { after(span.end, self.message_wait()) } else { after(span.end, self.config.call_hold) }
    }

    /// When a span is of no more use to those around it.
    fn expiry(&self, span: &Span) -> i64 {
        if span.kind == Kind::Producer { self.deadline(span) } else { after(span.end, self.config.trace_ttl.max(self.config.call_hold)) }
    }

    /// How long a message is kept: its last consumer may itself wait for its links until the hold is over.
    fn message_wait(&self) -> Duration {
        self.config.message_ttl.saturating_add(self.config.call_hold.saturating_mul(2))
    }

    /// Forgets strings that no span uses any more.
    fn collect_symbols(&mut self) {
        if self.symbols.len() < self.symbol_limit {
            return;
        }
        let mut live = Vec::new();
        self.store.for_each(|span| live.extend([span.service, span.namespace, span.operation, span.peer]));
        let renamed = self.symbols.retain(live.into_iter());
        self.store.for_each(|span| {
            for symbol in [&mut span.service, &mut span.namespace, &mut span.operation, &mut span.peer] {
                *symbol = renamed.get(*symbol);
            }
        });
        self.symbol_limit = SYMBOLS.max(2 * self.symbols.len());
    }
}

impl Derive for CallSpans {
    fn output(&self) -> Stream {
        Stream::CallSpans
    }

    fn inputs(&self) -> &'static [Stream] {
        &[Stream::Spans, Stream::SpanLinks]
    }

    fn push(&mut self, input: Stream, batch: &RecordBatch) -> Result<Vec<RecordBatch>, DeriveError> {
        if input == Stream::SpanLinks {
            let dropped = self.links.push(batch)?;
            Counters::add(&self.counters.calls_dropped_links, dropped);
            return Ok(Vec::new());
        }
        self.collect_symbols();
        self.push_spans(batch)?;
        rows::batch(&mut self.rows, &self.symbols)
    }

    fn advance(&mut self, watermark: Timestamp) -> Result<Vec<RecordBatch>, DeriveError> {
        self.watermark = self.watermark.max(watermark.as_nanos());
        while let Some(id) = self.store.pop_due(self.watermark) {
            self.resolve(id);
        }
        self.links.expire(self.watermark, after(0, self.config.call_hold.saturating_mul(4)));
        rows::batch(&mut self.rows, &self.symbols)
    }

    fn delay(&self) -> Duration {
        // Traces are looked at once a second.
        self.config.call_hold + Duration::from_secs(1)
    }
}

// === impl SpanColumns ===

impl<'a> SpanColumns<'a> {
    fn new(columns: Columns<'a>) -> Result<Self, DeriveError> {
        let coded = |column| columns.text(column).map(Coded::new);
        let kinds = columns.text("kind")?;
        let kinds =
            (0..kinds.cardinality()).map(|code| i32::try_from(code).ok().and_then(|code| kinds.value(code)).map_or(Kind::Local, kind));
        Ok(Self {
            resource: [coded("service_name")?, coded("service_namespace")?],
            operation: [coded("http_route")?, coded("rpc_method")?, coded("messaging_destination_name")?, coded("name")?],
            peer: [coded("peer_service")?, coded("db_system")?, coded("messaging_destination_name")?, coded("server_address")?],
            kinds: kinds.collect(),
        })
    }

    /// Service, namespace, operation and peer of a row; the peer only for spans that call out, and no operation for what is neither a
    /// side of a call nor the root of a trace.
    fn names(&mut self, symbols: &mut Symbols, row: usize, kind: Kind, is_root: bool) -> [Symbol; 4] {
        let [service, namespace] = self.resource.each_mut().map(|column| column.symbol(symbols, row));
        let mut first =
            |columns: &mut [Coded<'a>; 4]| columns.iter_mut().fold(Symbol::NULL, |found, column| found.or(|| column.symbol(symbols, row)));
        let operation = if kind == Kind::Local && !is_root { Symbol::NULL } else { first(&mut self.operation) };
        let peer = if matches!(kind, Kind::Client | Kind::Producer) { first(&mut self.peer) } else { Symbol::NULL };
        [service, namespace, operation, peer]
    }
}

fn kind(name: &str) -> Kind {
    match name {
        "SERVER" => Kind::Server,
        "CLIENT" => Kind::Client,
        "PRODUCER" => Kind::Producer,
        "CONSUMER" => Kind::Consumer,
        _ => Kind::Local,
    }
}
