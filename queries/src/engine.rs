//! The engine: rows in, windows out. One task owns it; queries run on [`Snapshot`]s elsewhere.
//!
//! ```text
//! push ─▶ admit (late? future?) ─▶ derive ─▶ collect ─▶ aggregate into panes          advance ─▶ emit views ─▶ run views of views
//! ```
//!
//! No call reads a clock: `push` is told when rows were received, `advance` is told the time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use arrow::record_batch::RecordBatch;
use tracescale_core::schema::Stream;
use tracescale_core::time::Timestamp;

use crate::catalog::Catalog;
use crate::config::{Emission, EngineConfig, EngineParts, ViewSource};
use crate::derive::Derive;
use crate::feed::Feed;
use crate::history;
use crate::judgement::Advice;
use crate::life::Life;
use crate::model::Model;
use crate::problem::{EngineError, ViewProblem};
use crate::session::Functions;
use crate::snapshot::Snapshot;
use crate::stats::EngineStats;
use crate::view::Now;
use crate::watermark::Watermark;

/// Incremental windows over streams. See the module's text.
pub struct Engine {
    config: EngineConfig,
    catalog: Catalog,
    functions: Functions,
    derives: Vec<Box<dyn Derive>>,
    /// One admission and watermark for each decoded stream, whoever reads it.
    streams: BTreeMap<Stream, Source>,
    /// Watermarks of feeds that do not run on their stream's own time column.
    others: BTreeMap<usize, Watermark>,
    life: Life,
    stats: EngineStats,
    now: Option<Timestamp>,
    backlog: bool,
}

#[derive(Debug)]
struct Source {
    feed: Feed,
    watermark: Watermark,
}

/// Rows on their way in.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    source: &'a str,
    cap: Timestamp,
}

const DECODED: [Stream; 4] = [Stream::Spans, Stream::SpanEvents, Stream::SpanLinks, Stream::Metrics];

// === impl Engine ===

impl Engine {
    /// An engine with views only.
    ///
    /// # Errors
    /// Every problem of every view.
    pub async fn new(config: EngineConfig, views: Vec<ViewSource>) -> Result<Self, Vec<ViewProblem>> {
        Self::with_parts(config, EngineParts { views, ..EngineParts::default() }).await
    }

    /// An engine with views, derived streams and functions.
    ///
    /// # Errors
    /// Every problem of every view.
    pub async fn with_parts(config: EngineConfig, parts: EngineParts) -> Result<Self, Vec<ViewProblem>> {
        let functions = Functions::new(parts.functions, parts.aggregates);
        let catalog = Catalog::plan(&parts.views, parts.models, &functions, &config).await?;
        let read: BTreeSet<Stream> = catalog.feeds.iter().map(|feed| feed.stream).collect();
        let derives = parts.derives.into_iter().filter(|derive| read.contains(&derive.output())).collect();
        let mut streams = BTreeMap::new();
        for stream in DECODED {
            if let Ok(feed) = Feed::new(stream, stream.time_column()) {
                streams.insert(stream, Source { feed, watermark: Watermark::new(config.lateness, config.idle) });
            }
        }
        let own = |feed: &Feed| feed.time_column != feed.stream.time_column();
        let others = catalog.feeds.iter().enumerate().filter(|(_, feed)| own(feed));
        let others = others.map(|(index, _)| (index, Watermark::new(config.lateness, config.idle))).collect();
        let life = Life::new(config.source_timeout, config.max_groups_per_view);
        let stats = EngineStats::default();
        Ok(Self { config, catalog, functions, derives, streams, others, life, stats, now: None, backlog: false })
    }

    /// Takes rows of decoded streams that `source` (a sender's address) sent at `received_at`. Rows are aggregated when a
    /// micro-batch is full, at the latest in [`Engine::advance`].
    ///
    /// # Errors
    /// When a batch does not have the schema of its stream (nothing is taken then), or a derived stream cannot be made.
    pub async fn push(&mut self, source: &str, batches: Vec<(Stream, RecordBatch)>, received_at: Timestamp) -> Result<(), EngineError> {
        for (stream, batch) in &batches {
            check_schema(*stream, batch)?;
        }
        let arrival = Arrival { source, cap: received_at + self.config.max_future_skew };
        let oldest = batches.iter().filter_map(|(stream, batch)| oldest(*stream, batch)).min().unwrap_or(received_at);
        let sender = self.life.source(source, received_at, oldest.max(received_at - self.config.lateness));
        for (stream, batch) in batches {
            self.signs_of_life(&batch, &sender, received_at);
            self.admit(stream, &batch, arrival)?;
        }
        for index in 0..self.catalog.feeds.len() {
            if self.catalog.feeds[index].rows() >= self.config.micro_batch_rows {
                self.flush(index).await?;
            }
        }
        Ok(())
    }

    /// Requests are taken from then on, after a restart: windows since the last one that was [pushed](Engine::push) are not complete.
    pub fn listen(&mut self, from: Timestamp) {
        self.life.listen(from);
    }

    /// When [`Engine::advance`] will have something to do, as far as it is known now.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let now = self.now?;
        let final_due = |view: &crate::view::PaneView| view.cursor.final_due(self.feed_watermark(view.feed));
        if self.backlog || self.catalog.views.iter().any(final_due) {
            return Some(now);
        }
        let deadline = |view: &crate::view::PaneView| {
            let tick = view.cursor.next_tick(now).unwrap_or_else(|| view.windows.end_after(now));
            // When nothing comes, the clock finishes windows on its own.
            let idle = self.config.lateness + self.config.idle + self.delay(self.catalog.feeds[view.feed].stream);
            view.cursor.finished().map_or(tick, |finished| tick.min(finished + view.windows.slide + idle))
        };
        self.catalog.views.iter().map(deadline).min()
    }

    /// Aggregates what waits, and emits what is due at `now`: final windows that the watermark has passed, final windows that
    /// late rows have changed, and the newest provisional window of each view. Works without traffic; the number of emissions
    /// is bounded whatever the clock did since the last call. A view whose SQL fails on rows (a cast, a division) emits nothing
    /// and is counted in [`EngineStats::failures`]; the others go on.
    ///
    /// # Errors
    /// When a derived stream cannot be made.
    pub async fn advance(&mut self, now: Timestamp) -> Result<Vec<Emission>, EngineError> {
        self.move_clock(now);
        self.advance_derived()?;
        for index in 0..self.catalog.feeds.len() {
            self.flush(index).await?;
        }
        let mut emissions = Vec::new();
        self.backlog = false;
        for index in 0..self.catalog.views.len() {
            let watermark = self.feed_watermark(self.catalog.views[index].feed);
            let view = &mut self.catalog.views[index];
            let at = Now { now, watermark, life: &self.life, max_finals: self.config.max_final_windows };
            let emitted = match view.emit(at).await {
                Ok(emitted) => emitted,
                Err(error) => {
                    self.stats.failed(&view.name, &error);
                    continue;
                }
            };
            view.forget(watermark, self.config.allowed_lateness, self.config.group_ttl);
            self.backlog |= emitted.backlog;
            self.stats.skipped_provisional += emitted.skipped;
            for emission in &emitted.emissions {
                self.keep(emission, now);
            }
            emissions.extend(emitted.emissions);
        }
        self.roll_up(&mut emissions, now).await;
        self.forget(now);
        Ok(emissions)
    }

    /// How far back rows matter to windows that are not final yet: an engine that is fed again everything that was received
    /// in this time before its predecessor ended makes the windows that it still owed.
    #[must_use]
    pub fn look_back(&self) -> Duration {
        let of = |view: &crate::view::PaneView| view.windows.size + view.windows.slide + self.delay(self.catalog.feeds[view.feed].stream);
        let longest = self.catalog.views.iter().map(of).max().unwrap_or_default();
        longest + self.config.lateness + self.config.allowed_lateness + self.config.idle
    }

    /// How long after the last rows their windows are final and their groups missing: from then on a silence only goes on.
    #[must_use]
    pub fn settled_after(&self) -> Duration {
        self.look_back() + self.config.source_timeout
    }

    /// How long after the last rows nothing is left of them but emitted windows: no group is known any more.
    #[must_use]
    pub fn quiet_after(&self) -> Duration {
        self.settled_after() + self.config.group_ttl
    }

    /// Whether a model reads a view, or is one: then it wants to be [taught](Engine::teach) its past.
    #[must_use]
    pub fn remembers(&self, view: &str) -> bool {
        self.catalog.models().any(|model| model.name() == view || model.reads().contains(&view))
    }

    /// Shows models earlier final rows of a view, oldest first, so that they need not begin anew after a restart.
    pub fn teach(&mut self, view: &str, rows: &RecordBatch) {
        let teachable = |model: &&mut Box<dyn Model>| model.name() == view || model.reads().contains(&view);
        self.catalog.models_mut().filter(teachable).for_each(|model| model.remember(view, rows));
    }

    /// Tells models what people and the controller say of services, in place of what was said before.
    pub fn advise(&mut self, advice: &Advice) {
        self.catalog.models_mut().for_each(|model| model.advise(advice));
    }

    /// Counters and gauges, as of the last [`Engine::advance`].
    #[must_use]
    pub fn stats(&self) -> &EngineStats {
        &self.stats
    }

    /// The emitted rows of every view, for queries elsewhere.
    #[must_use]
    pub fn tables(&self) -> Snapshot {
        Snapshot { views: Arc::new(self.catalog.histories.clone()), functions: self.functions.clone(), now: self.now }
    }

    fn admit(&mut self, stream: Stream, batch: &RecordBatch, arrival: Arrival<'_>) -> Result<(), EngineError> {
        *self.stats.rows.entry(stream).or_default() += batch.num_rows() as u64;
        let allowed = self.config.allowed_lateness;
        let Some(source) = self.streams.get_mut(&stream) else { return Ok(()) };
        let horizon = source.watermark.current() - allowed;
        let admitted = source.feed.admit(batch, horizon, arrival.cap).map_err(|error| rows_error(stream, error))?;
        if let Some((_, newest)) = admitted.range {
            source.watermark.observe(newest.min(arrival.cap));
        }
        if admitted.future > 0 {
            self.stats.future(stream, arrival.source, admitted.future);
        }
        if let Some(late) = admitted.late {
            count_late(&mut self.stats, stream, &late);
        }
        let Some(kept) = admitted.kept else { return Ok(()) };
        self.feed(stream, &kept, arrival)?;
        let mut derived = Vec::new();
        for derive in self.derives.iter_mut().filter(|derive| derive.inputs().contains(&stream)) {
            let output = derive.output();
            derived.extend(derive.push(stream, &kept)?.into_iter().map(|batch| (output, batch)));
        }
        for (output, batch) in derived {
            self.feed_derived(output, &batch, arrival)?;
        }
        Ok(())
    }

    /// Gives admitted rows to the feeds of their stream.
    fn feed(&mut self, stream: Stream, rows: &RecordBatch, arrival: Arrival<'_>) -> Result<(), EngineError> {
        for (index, feed) in self.catalog.feeds.iter_mut().enumerate().filter(|(_, feed)| feed.stream == stream) {
            let Some(watermark) = self.others.get_mut(&index) else {
                feed.add(rows, arrival.cap).map_err(|error| rows_error(stream, error))?;
                continue;
            };
            let horizon = watermark.current() - self.config.allowed_lateness;
            let admitted = feed.admit(rows, horizon, arrival.cap).map_err(|error| rows_error(stream, error))?;
            if let Some((_, newest)) = admitted.range {
                watermark.observe(newest.min(arrival.cap));
            }
            if let Some(late) = admitted.late {
                count_late(&mut self.stats, stream, &late);
            }
            if let Some(kept) = admitted.kept {
                feed.add(&kept, arrival.cap).map_err(|error| rows_error(stream, error))?;
            }
        }
        Ok(())
    }

    fn feed_derived(&mut self, stream: Stream, rows: &RecordBatch, arrival: Arrival<'_>) -> Result<(), EngineError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        check_schema(stream, rows)?;
        *self.stats.rows.entry(stream).or_default() += rows.num_rows() as u64;
        let horizon = self.stream_watermark(stream) - self.config.allowed_lateness;
        let Ok(gate) = Feed::new(stream, stream.time_column()) else { return Ok(()) };
        let admitted = gate.admit(rows, horizon, arrival.cap).map_err(|error| rows_error(stream, error))?;
        if let Some(late) = admitted.late {
            count_late(&mut self.stats, stream, &late);
        }
        admitted.kept.map_or(Ok(()), |kept| self.feed(stream, &kept, arrival))
    }

    async fn flush(&mut self, index: usize) -> Result<(), EngineError> {
        let feed = &mut self.catalog.feeds[index];
        if feed.rows() == 0 {
            return Ok(());
        }
        let stream = feed.stream;
        let views = self.catalog.views.iter().filter(|view| view.feed == index);
        let rows = feed.take(views.map(|view| view.windows.pane())).map_err(|error| rows_error(stream, error))?;
        for view in self.catalog.views.iter_mut().filter(|view| view.feed == index) {
            let rows = rows.get(&view.windows.pane()).cloned().unwrap_or_default();
            if let Err(error) = view.aggregate(rows).await {
                self.stats.failed(&view.name, &error);
            }
        }
        Ok(())
    }

    fn move_clock(&mut self, now: Timestamp) {
        let stepped_back = self.now.is_some_and(|last| now + self.config.max_future_skew < last);
        self.now = Some(now);
        let skew = self.config.max_future_skew;
        for watermark in self.streams.values_mut().map(|source| &mut source.watermark).chain(self.others.values_mut()) {
            if stepped_back {
                watermark.step_back(now, skew);
            }
            watermark.advance(now);
        }
        if stepped_back {
            self.stats.clock_steps += 1;
            self.life.step_back(now);
            for index in 0..self.catalog.views.len() {
                let watermark = self.feed_watermark(self.catalog.views[index].feed);
                self.catalog.views[index].cursor.step_back(now, watermark);
            }
        }
    }

    fn advance_derived(&mut self) -> Result<(), EngineError> {
        let mut derived = Vec::new();
        for index in 0..self.derives.len() {
            let watermark = self.inputs_watermark(self.derives[index].inputs());
            let output = self.derives[index].output();
            derived.extend(self.derives[index].advance(watermark)?.into_iter().map(|batch| (output, batch)));
        }
        let cap = self.now.unwrap_or(Timestamp::MAX) + self.config.max_future_skew;
        for (output, batch) in derived {
            self.feed_derived(output, &batch, Arrival { source: "", cap })?;
        }
        Ok(())
    }

    async fn roll_up(&mut self, emissions: &mut Vec<Emission>, now: Timestamp) {
        for index in 0..self.catalog.rollups.len() {
            let rollup = &mut self.catalog.rollups[index];
            let ends = rollup.due(emissions);
            if ends.is_empty() {
                continue;
            }
            let emitted = match rollup.emit(&ends, &self.catalog.histories).await {
                Ok(emitted) => emitted,
                Err(error) => {
                    self.stats.failed(&rollup.name, &error);
                    continue;
                }
            };
            for emission in &emitted {
                self.keep(emission, now);
            }
            emissions.extend(emitted);
        }
    }

    fn keep(&mut self, emission: &Emission, now: Timestamp) {
        if let Some(history) = self.catalog.histories.get_mut(&emission.view) {
            history.put(emission);
        }
        if emission.is_final {
            self.stats.final_emissions += 1;
            self.stats.revisions += u64::from(emission.revision > 0);
        } else {
            self.stats.provisional_emissions += 1;
            self.stats.emission_lag = now.since(emission.window_end);
        }
    }

    fn forget(&mut self, now: Timestamp) {
        for history in self.catalog.histories.values_mut() {
            history.drop_before(now - self.config.history);
        }
        history::bound(self.catalog.histories.values_mut(), self.config.history_bytes);
        self.life.forget(now - self.config.group_ttl.max(self.config.source_timeout));
        self.stats.history_bytes = self.catalog.histories.values().map(history::History::bytes).sum();
        self.stats.pane_bytes = self.catalog.views.iter().map(|view| view.panes.bytes()).sum();
        self.stats.watermarks = Stream::ALL.into_iter().map(|stream| (stream, self.stream_watermark(stream))).collect();
        for view in &self.catalog.views {
            self.stats.groups.insert(view.name.clone(), view.registry.len());
            self.stats.overflowed.insert(view.name.clone(), view.registry.overflowed());
        }
    }

    fn signs_of_life(&mut self, batch: &RecordBatch, source: &Arc<str>, at: Timestamp) {
        let services = batch.column_by_name("service_name").and_then(|column| column.as_dictionary_opt::<Int32Type>());
        if let Some(names) = services.and_then(|services| services.values().as_string_opt::<i32>()) {
            names.iter().flatten().for_each(|name| self.life.service(name, source, at));
        }
    }

    fn feed_watermark(&self, index: usize) -> Timestamp {
        self.others.get(&index).map_or_else(|| self.stream_watermark(self.catalog.feeds[index].stream), Watermark::current)
    }

    fn stream_watermark(&self, stream: Stream) -> Timestamp {
        if let Some(source) = self.streams.get(&stream) {
            return source.watermark.current();
        }
        let derive = self.derives.iter().find(|derive| derive.output() == stream);
        derive.map_or(Timestamp::MIN, |derive| self.inputs_watermark(derive.inputs()) - derive.delay())
    }

    fn delay(&self, stream: Stream) -> Duration {
        self.derives.iter().find(|derive| derive.output() == stream).map_or(Duration::ZERO, |derive| derive.delay())
    }

    fn inputs_watermark(&self, inputs: &[Stream]) -> Timestamp {
        inputs.iter().filter_map(|input| self.streams.get(input)).map(|source| source.watermark.current()).min().unwrap_or(Timestamp::MIN)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("config", &self.config).field("stats", &self.stats).finish_non_exhaustive()
    }
}

fn check_schema(stream: Stream, batch: &RecordBatch) -> Result<(), EngineError> {
    let expected = stream.schema();
    if Arc::ptr_eq(&expected, batch.schema_ref()) || expected.fields() == batch.schema_ref().fields() {
        return Ok(());
    }
    let differs = expected.fields().iter().find(|field| batch.schema_ref().field_with_name(field.name()).ok() != Some(field));
    let detail =
        differs.map_or_else(|| "columns are in another order or superfluous".to_owned(), |field| format!("expected column {field}"));
    Err(EngineError::Schema { stream: stream.name(), detail })
}

fn oldest(stream: Stream, batch: &RecordBatch) -> Option<Timestamp> {
    let times = batch.column_by_name(stream.time_column())?.as_primitive_opt::<TimestampNanosecondType>()?;
    arrow::compute::min(times).map(Timestamp::from_nanos)
}

fn rows_error(stream: Stream, error: arrow::error::ArrowError) -> EngineError {
    EngineError::Rows { stream: stream.name(), source: error.into() }
}

fn count_late(stats: &mut EngineStats, stream: Stream, rows: &RecordBatch) {
    let services = rows.column_by_name("service_name").or_else(|| rows.column_by_name("client_service"));
    let names = services.and_then(|column| arrow::compute::cast(column, &arrow::datatypes::DataType::Utf8).ok());
    let Some(names) = names.as_ref().and_then(|names| names.as_string_opt::<i32>()) else {
        stats.late(stream, "", rows.num_rows() as u64);
        return;
    };
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in names {
        *counts.entry(name.unwrap_or_default()).or_default() += 1;
    }
    for (name, count) in counts {
        stats.late(stream, name, count);
    }
}
