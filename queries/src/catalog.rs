//! From view sources to live views: parses, orders and plans them, and reports every problem at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::TaskContext;
use datafusion::execution::runtime_env::RuntimeEnv;
use tracescale_core::schema::Stream;

use crate::config::{EngineConfig, EngineParts, ViewSource};
use crate::cursor::Cursor;
use crate::feed::Feed;
use crate::model::Model;
use crate::pane::Panes;
use crate::problem::{Complaint, ViewProblem};
use crate::query::Planned;
use crate::registry::Registry;
use crate::relation::LivePlanner;
use crate::rollup::{self, Content, Rollup};
use crate::session::{self, Functions};
use crate::shape::{self, Shape};
use crate::slot::Slot;
use crate::statement::{self, ViewStatement};
use crate::surgery::Plans;
use crate::view::{PaneView, live_schema};
use crate::window::{WindowCall, Windows};
use crate::{history::History, output};

/// Everything that is planned.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) feeds: Vec<Feed>,
    pub(crate) views: Vec<PaneView>,
    /// In an order in which each comes after those that it reads.
    pub(crate) rollups: Vec<Rollup>,
    pub(crate) histories: BTreeMap<String, History>,
}

/// A view before it is planned.
#[derive(Debug)]
struct Draft {
    origin: String,
    statement: ViewStatement,
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    Stream(Stream, WindowCall),
    Views { names: BTreeSet<String>, calls: Vec<WindowCall> },
}

// === impl Reads ===

impl Reads {
    fn slide_at_least(&mut self, slide: Duration) {
        match self {
            Self::Stream(_, call) => call.windows = call.windows.slide_at_least(slide),
            Self::Views { calls, .. } => calls.iter_mut().for_each(|call| call.windows = call.windows.slide_at_least(slide)),
        }
    }
}

// === impl Catalog ===

impl Catalog {
    pub(crate) async fn plan(
        sources: &[ViewSource],
        models: Vec<Box<dyn Model>>,
        functions: &Functions,
        config: &EngineConfig,
    ) -> Result<Self, Vec<ViewProblem>> {
        let mut problems = Vec::new();
        let mut drafts = drafts(sources, &mut problems);
        for model in &models {
            if let Some(taken) = drafts.remove(model.name()) {
                let complaint = Complaint::new("a shipped model already has this name").hint("choose another name");
                problems.push(complaint.of_view(model.name(), &taken.origin));
            }
        }
        drafts.values_mut().for_each(|draft| draft.reads.slide_at_least(config.slide_min));
        let mut catalog = Self::default();
        let mut over_views = BTreeMap::new();
        for (name, draft) in drafts {
            match &draft.reads {
                Reads::Stream(stream, call) => {
                    if let Err(complaints) = catalog.add_stream_view(&draft, *stream, call, functions, config).await {
                        problems.extend(complaints.into_iter().map(|complaint| complaint.of_view(&name, &draft.origin)));
                    }
                }
                Reads::Views { .. } => {
                    over_views.insert(name, draft);
                }
            }
        }
        catalog.add_rollups(over_views, models, functions, &mut problems).await;
        if problems.is_empty() { Ok(catalog) } else { Err(problems) }
    }

    async fn add_stream_view(
        &mut self,
        draft: &Draft,
        stream: Stream,
        call: &WindowCall,
        functions: &Functions,
        config: &EngineConfig,
    ) -> Result<(), Vec<Complaint>> {
        let one = |complaint: Complaint| vec![complaint];
        let mut query = draft.statement.query.clone();
        statement::rewrite(&mut query, Some(call.windows.size.as_secs_f64())).map_err(one)?;
        let live = live_schema(&stream.schema());
        let rows = Slot::new(Arc::clone(&live));
        let tables = HashMap::from([(stream.name().to_owned(), rows.table().map_err(|error| one(error.into()))?)]);
        let state = session::live(functions, Arc::new(LivePlanner { tables }));
        let plan = session::plan(&state, &query).await.map_err(|error| one(error.into()))?;
        let Shape { plan, keys, outputs } = shape::shape(&plan, &call.time_column)?;
        let context = Arc::new(TaskContext::from(&state));
        let feed = self.feed(stream, &call.time_column).map_err(one)?;
        let plans = async {
            let plan = state.create_physical_plan(&plan).await?;
            Plans::split(&plan, &mut self.feeds[feed], &keys, context).await
        };
        let plans = plans.await.map_err(|error| one(error.into()))?;
        let registry = Registry::new(plans.state_schema(), &keys, config.max_groups_per_view)
            .map_err(|error| one(Complaint::new(error.to_string())))?;
        let schema = output::schema(&plans.output_schema()).map_err(one)?;
        let name = draft.statement.name.clone();
        self.histories.insert(name.clone(), History::new(Arc::clone(&schema)));
        self.views.push(PaneView {
            name,
            feed,
            windows: call.windows,
            schema,
            keys,
            outputs: outputs[..].to_vec(),
            plans,
            panes: Panes::new(call.windows.pane().as_nanos().try_into().unwrap_or(i64::MAX)),
            registry,
            cursor: Cursor::new(call.windows),
            changed: BTreeSet::new(),
            revisions: BTreeMap::new(),
        });
        Ok(())
    }

    fn feed(&mut self, stream: Stream, time_column: &str) -> Result<usize, Complaint> {
        let known = self.feeds.iter().position(|feed| feed.stream == stream && feed.time_column == time_column);
        if let Some(index) = known {
            return Ok(index);
        }
        self.feeds.push(Feed::new(stream, time_column).map_err(|error| Complaint::new(error.to_string()))?);
        Ok(self.feeds.len() - 1)
    }

    async fn add_rollups(
        &mut self,
        mut drafts: BTreeMap<String, Draft>,
        mut models: Vec<Box<dyn Model>>,
        functions: &Functions,
        problems: &mut Vec<ViewProblem>,
    ) {
        let mut unplanned: BTreeSet<String> = problems.iter().map(|problem| problem.view.clone()).collect();
        loop {
            self.add_models(&mut models);
            let ready: Vec<String> = drafts
                .iter()
                .filter(|(_, draft)| matches!(&draft.reads, Reads::Views { names, .. } if names.iter().all(|name| self.histories.contains_key(name))))
                .map(|(name, _)| name.clone())
                .collect();
            if ready.is_empty() {
                break;
            }
            for name in ready {
                let Some(draft) = drafts.remove(&name) else { continue };
                if let Err(complaint) = self.add_rollup(&draft, functions).await {
                    problems.push(complaint.of_view(&name, &draft.origin));
                    unplanned.insert(name);
                }
            }
        }
        let left: BTreeSet<String> = drafts.keys().cloned().collect();
        for (name, draft) in drafts {
            let Reads::Views { names, .. } = &draft.reads else { continue };
            let unknown =
                names.iter().find(|read| !self.histories.contains_key(*read) && !left.contains(*read) && !unplanned.contains(*read));
            if let Some(unknown) = unknown {
                let known: Vec<&str> =
                    Stream::ALL.iter().map(|stream| stream.name()).chain(self.histories.keys().map(String::as_str)).collect();
                let complaint = Complaint::new(format!("there is no view or stream {unknown}"));
                problems.push(complaint.hint(format!("there are: {}", known.join(", "))).of_view(&name, &draft.origin));
            } else if names.iter().any(|read| left.contains(read)) && !names.iter().any(|read| unplanned.contains(read)) {
                let cycle: Vec<&str> = names.iter().filter(|read| left.contains(*read)).map(String::as_str).collect();
                let complaint = Complaint::new(format!("the view reads {}, which waits for this view in turn", cycle.join(", ")));
                problems.push(complaint.hint("views must not read each other in a circle").of_view(&name, &draft.origin));
            }
        }
    }

    /// Adds the models that read views which are all there.
    fn add_models(&mut self, models: &mut Vec<Box<dyn Model>>) {
        while let Some(ready) = models.iter().position(|model| model.reads().iter().all(|name| self.histories.contains_key(*name))) {
            let model = models.remove(ready);
            let Some((windows, _)) = self.meta(model.reads()[0]) else { continue };
            let Ok(schema) = rollup::schema(&model.schema()) else { continue };
            let owned = |names: &[&'static str]| names.iter().map(|name| (*name).to_owned()).collect();
            let (name, reads, keys) = (model.name().to_owned(), owned(model.reads()), owned(model.keys()));
            self.histories.insert(name.clone(), History::new(Arc::clone(&schema)));
            self.rollups.push(Rollup { name, reads, windows, schema, keys, content: Content::Model(model) });
        }
    }

    /// The models among the views.
    pub(crate) fn models(&self) -> impl Iterator<Item = &dyn Model> {
        self.rollups.iter().filter_map(|view| if let Content::Model(model) = &view.content { Some(&**model) } else { None })
    }

    /// The models among the views, to teach.
    pub(crate) fn models_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Model>> {
        self.rollups.iter_mut().filter_map(|view| if let Content::Model(model) = &mut view.content { Some(model) } else { None })
    }

    async fn add_rollup(&mut self, draft: &Draft, functions: &Functions) -> Result<(), Complaint> {
        let Reads::Views { names, calls } = &draft.reads else { return Ok(()) };
        let read: Vec<(Windows, Vec<String>)> = names.iter().filter_map(|name| self.meta(name)).collect();
        let windows: Vec<Windows> = calls.iter().map(|call| call.windows).chain(read.iter().map(|(windows, _)| *windows)).collect();
        let Some(first) = windows.first().copied() else { return Err(Complaint::new("the view reads nothing")) };
        let sizes: BTreeSet<_> = if calls.is_empty() { &windows[..] } else { &windows[..calls.len()] }.iter().map(|of| of.size).collect();
        let seconds = if let (1, Some(size)) = (sizes.len(), sizes.first()) { Some(size.as_secs_f64()) } else { None };
        let mut query = draft.statement.query.clone();
        statement::rewrite(&mut query, seconds)?;
        let tables = self.histories.iter().map(|(name, history)| (name.clone(), Arc::clone(history.schema()))).collect();
        let planned = Planned::new(&query, &tables, functions, Arc::new(RuntimeEnv::default())).await?;
        let schema = rollup::schema(&planned.schema())?;
        let name = draft.statement.name.clone();
        let mut keys: Vec<String> = read.into_iter().flat_map(|(_, keys)| keys).filter(|key| schema.index_of(key).is_ok()).collect();
        keys.sort();
        keys.dedup();
        self.histories.insert(name.clone(), History::new(Arc::clone(&schema)));
        self.rollups.push(Rollup {
            name,
            reads: names.iter().cloned().collect(),
            windows: first,
            schema,
            keys,
            content: Content::Sql(planned),
        });
        Ok(())
    }

    fn meta(&self, name: &str) -> Option<(Windows, Vec<String>)> {
        let view = self.views.iter().find(|view| view.name == name).map(|view| (view.windows, view.key_names()));
        view.or_else(|| self.rollups.iter().find(|view| view.name == name).map(|view| (view.windows, view.keys.clone())))
    }
}

/// The parts without the views and models that queries do not need: they need the ones that they name, and what those read in
/// turn. A view that cannot be read is kept, so that its problem is told.
#[must_use]
pub fn needed(parts: EngineParts, queries: &[&str]) -> EngineParts {
    let EngineParts { views, mut models, .. } = parts;
    let parsed: Vec<_> = views.into_iter().map(|view| (statement::parse_view(&view.sql).ok(), view)).collect();
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut open: Vec<String> =
        queries.iter().filter_map(|sql| statement::parse_query(sql).ok()).flat_map(|query| read_names(&query)).collect();
    while let Some(name) = open.pop() {
        let model = models.iter().filter(|model| model.name() == name).flat_map(|model| model.reads());
        open.extend(model.map(|read| (*read).to_owned()));
        let read = parsed.iter().filter_map(|(statement, _)| statement.as_ref()).find(|statement| statement.name == name);
        if wanted.insert(name) {
            open.extend(read.into_iter().flat_map(|statement| read_names(&statement.query)));
        }
    }
    let keep = |statement: &Option<ViewStatement>| statement.as_ref().is_none_or(|statement| wanted.contains(&statement.name));
    let views = parsed.iter().filter(|(statement, _)| keep(statement)).map(|(_, view)| view.clone()).collect();
    models.retain(|model| wanted.contains(model.name()));
    EngineParts { views, models, ..parts }
}

/// The views and models that are made of metrics alone, whatever lies between.
#[must_use]
pub fn of_metrics(parts: &EngineParts) -> BTreeSet<String> {
    let is_metrics = |name: &str| matches!(Stream::from_name(name), Some(Stream::Metrics | Stream::Increments));
    let views = parts.views.iter().filter_map(|view| statement::parse_view(&view.sql).ok());
    let mut open: Vec<(String, Vec<String>)> = views.map(|view| (view.name, read_names(&view.query))).collect();
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let models = parts.models.iter().map(|model| (model.name().to_owned(), owned(model.reads())));
    open.extend(models);
    let mut known: BTreeSet<String> = BTreeSet::new();
    // What is left in the end reads something else, or goes in circles.
    loop {
        let (of_metrics, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|(_, reads)| !reads.is_empty() && reads.iter().all(|name| is_metrics(name) || known.contains(name)));
        if of_metrics.is_empty() {
            return known;
        }
        known.extend(of_metrics.into_iter().map(|(name, _)| name));
        open = others;
    }
}

/// The streams and views that a query names.
fn read_names(query: &datafusion::sql::sqlparser::ast::Query) -> Vec<String> {
    let relations = statement::relations(query);
    relations.plain.into_iter().chain(relations.windowed.iter().map(WindowCall::relation_name).collect::<Vec<_>>()).collect()
}

fn drafts(sources: &[ViewSource], problems: &mut Vec<ViewProblem>) -> BTreeMap<String, Draft> {
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    for source in sources {
        let statement = match statement::parse_view(&source.sql) {
            Ok(statement) => statement,
            Err(complaint) => {
                problems.push(complaint.of_view(&source.name, &source.origin));
                continue;
            }
        };
        let name = statement.name.clone();
        match reads(&statement) {
            Err(complaints) => problems.extend(complaints.into_iter().map(|complaint| complaint.of_view(&name, &source.origin))),
            Ok(_) if Stream::from_name(&name).is_some() => {
                problems.push(
                    Complaint::new(format!("{name} is the name of a stream")).hint("choose another name").of_view(&name, &source.origin),
                );
            }
            Ok(reads) => {
                if let Some(first) = drafts.get(&name) {
                    let complaint = Complaint::new(format!("a view of this name is already defined in {}", first.origin));
                    problems.push(complaint.hint("choose another name").of_view(&name, &source.origin));
                } else {
                    drafts.insert(name, Draft { origin: source.origin.clone(), statement, reads });
                }
            }
        }
    }
    drafts
}

fn reads(statement: &ViewStatement) -> Result<Reads, Vec<Complaint>> {
    let relations = statement::relations(&statement.query);
    let mut complaints = relations.complaints;
    for name in relations.plain.iter().filter_map(|name| Stream::from_name(name)) {
        let (stream, time) = (name.name(), name.time_column());
        complaints.push(
            Complaint::new(format!("the stream {stream} has no end, so it can only be read through windows"))
                .hint(format!("write FROM HOP({stream}, {time}, INTERVAL '5 seconds', INTERVAL '1 minute')")),
        );
    }
    let of_streams: Vec<(Stream, &WindowCall)> =
        relations.windowed.iter().filter_map(|call| Some((Stream::from_name(&call.relation_name())?, call))).collect();
    let views: BTreeSet<String> = relations
        .plain
        .iter()
        .cloned()
        .chain(relations.windowed.iter().map(WindowCall::relation_name))
        .filter(|name| Stream::from_name(name).is_none())
        .collect();
    if of_streams.len() > 1 || (of_streams.len() == 1 && !views.is_empty()) {
        let names: Vec<&str> = of_streams.iter().map(|(stream, _)| stream.name()).chain(views.iter().map(String::as_str)).collect();
        complaints.push(
            Complaint::new(format!("the view reads a stream together with something else ({})", names.join(", ")))
                .hint("write one view for each windowed stream, and a view that joins those views"),
        );
    }
    if !complaints.is_empty() {
        return Err(complaints);
    }
    Ok(match of_streams.first() {
        Some((stream, call)) => Reads::Stream(*stream, (*call).clone()),
        None => Reads::Views { names: views, calls: relations.windowed },
    })
}
