//! A view over views: ordinary SQL, or a model with memory, run again whenever a view that it reads was emitted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, StringArray, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Float64Type, Schema, SchemaRef, TimestampNanosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use tracescale_core::time::Timestamp;

use crate::config::Emission;
use crate::history::{Face, History, Window};
use crate::model::{Model, Seen};
use crate::output::APPENDED;
use crate::problem::Complaint;
use crate::query::Planned;
use crate::window::{WINDOW_END, WINDOW_START, Windows};

/// A view over views, live.
#[derive(Debug)]
pub(crate) struct Rollup {
    pub(crate) name: String,
    pub(crate) reads: Vec<String>,
    pub(crate) windows: Windows,
    pub(crate) schema: SchemaRef,
    /// Columns that identify a group in this view or in those that it reads.
    pub(crate) keys: Vec<String>,
    pub(crate) content: Content,
}

/// What fills a view over views.
#[derive(Debug)]
pub(crate) enum Content {
    Sql(Planned),
    Model(Box<dyn Model>),
}

/// What the read views say about a group.
#[derive(Clone, Copy, Debug)]
struct Standing {
    completeness: Option<f64>,
    age: Option<f64>,
    presence: usize,
}

const PRESENCE: [&str; 3] = ["active", "idle", "missing"];

/// The schema of a view over views: what it selects, nullable, and those appended columns that it does not select itself.
pub(crate) fn schema(selected: &Schema) -> Result<SchemaRef, Complaint> {
    let mut fields: Vec<Field> = selected.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    match selected.field_with_name(WINDOW_END).map(Field::data_type) {
        Ok(data_type) if *data_type == tracescale_core::schema::timestamp() => {}
        _ => {
            let complaint = Complaint::new("the view does not return a timestamp column window_end");
            return Err(complaint.hint("select window_end of a view that it reads"));
        }
    }
    for (name, data_type) in APPENDED {
        if selected.field_with_name(name).is_err() {
            fields.push(Field::new(name, data_type, true));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

// === impl Rollup ===

impl Rollup {
    /// The windows to answer for, now that these views emitted these windows.
    pub(crate) fn due(&self, emissions: &[Emission]) -> BTreeSet<Timestamp> {
        // A model answers once for each window: when the view that has it is there.
        let causes = if let Content::Model(_) = self.content { &self.reads[..1] } else { &self.reads[..] };
        emissions.iter().filter(|emission| causes.contains(&emission.view)).map(|emission| emission.window_end).collect()
    }

    /// Runs the view and returns its rows for the windows in `ends`.
    pub(crate) async fn emit(
        &mut self,
        ends: &BTreeSet<Timestamp>,
        histories: &BTreeMap<String, History>,
    ) -> Result<Vec<Emission>, DataFusionError> {
        let batches = match &mut self.content {
            Content::Sql(planned) => {
                let latest = self.reads.iter().filter_map(|name| histories.get(name)?.newest()).min();
                let per_window = planned.is_per_window();
                let rows = |name: &str| match histories.get(name) {
                    Some(history) if per_window => {
                        ends.iter().filter_map(|end| history.get(*end)).map(|window| window.rows.clone()).collect()
                    }
                    Some(history) => history.batches(Face::All),
                    None => Vec::new(),
                };
                planned.run((latest, ends.last().copied()), rows).await?
            }
            Content::Model(model) => {
                let seen = |end: &Timestamp| Seen::of(self.reads.first()?, *end, histories);
                ends.iter().filter_map(seen).map(|window| model.judge(&window)).collect::<Result<_, _>>()?
            }
        };
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        let rows = concat_batches(&first.schema(), &batches)?;
        let mut emissions = Vec::new();
        for (end, rows) in by_window(&rows, ends)? {
            emissions.push(self.emission(end, &rows, histories)?);
        }
        Ok(emissions)
    }

    fn emission(&self, end: Timestamp, rows: &RecordBatch, histories: &BTreeMap<String, History>) -> Result<Emission, ArrowError> {
        let mut read: Vec<&Arc<Window>> = self.reads.iter().filter_map(|name| histories.get(name)?.get(end)).collect();
        let is_model = matches!(self.content, Content::Model(_));
        // Of longer windows that end with its own, a model takes the newest final one: that this one is not complete says nothing.
        if let Some(driver) = read.first().copied().filter(|_| is_model) {
            let start = start_of(&driver.rows);
            read.retain(|window| start_of(&window.rows) == start);
        }
        // What a model says of a window stands when the view that has it is final: it will not be asked again.
        let deciding = if is_model { &read[..read.len().min(1)] } else { &read[..] };
        let is_final = !deciding.is_empty() && deciding.iter().all(|window| window.is_final);
        let before = histories.get(&self.name).and_then(|history| history.get(end)).filter(|before| is_final && before.is_final);
        let revision = before.map_or(0, |before| before.revision + 1);
        let standings = self.standings(rows, &read)?;
        let mut columns = rows.columns().to_vec();
        for field in &self.schema.fields()[columns.len()..] {
            let column: ArrayRef = match field.name().as_str() {
                "is_final" => Arc::new(BooleanArray::from(vec![is_final; rows.num_rows()])),
                "revision" => Arc::new(Int32Array::from_value(i32::try_from(revision).unwrap_or(i32::MAX), rows.num_rows())),
                "completeness" => {
                    standings.iter().map(|standing| standing.and_then(|of| of.completeness)).collect::<Float64Array>().into_array()
                }
                "age" => standings.iter().map(|standing| standing.and_then(|of| of.age)).collect::<Float64Array>().into_array(),
                _ => standings.iter().map(|standing| standing.map(|of| PRESENCE[of.presence])).collect::<StringArray>().into_array(),
            };
            columns.push(column);
        }
        let evidence_time = read.iter().map(|window| window.evidence_time).max().unwrap_or(end);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let window_start = start_of(&rows).unwrap_or_else(|| self.windows.start(end));
        Ok(Emission { view: self.name.clone(), window_start, window_end: end, is_final, revision, rows, evidence_time })
    }

    /// For each row: the worst that the read views say about its group. Views are matched by the key columns that both have.
    fn standings(&self, rows: &RecordBatch, read: &[&Arc<Window>]) -> Result<Vec<Option<Standing>>, ArrowError> {
        let mut standings: Vec<Option<Standing>> = vec![None; rows.num_rows()];
        for window in read {
            let shared = |name: &&String| match (rows.column_by_name(name), window.rows.column_by_name(name)) {
                (Some(ours), Some(theirs)) => ours.data_type() == theirs.data_type(),
                _ => false,
            };
            let names: Vec<&String> = self.keys.iter().filter(shared).collect();
            let theirs = keys(&window.rows, &names)?;
            let mut known: HashMap<Vec<u8>, Standing> = HashMap::new();
            for (index, key) in theirs.into_iter().enumerate() {
                let standing = Standing::read(&window.rows, index);
                known.entry(key).and_modify(|known| *known = known.worse(standing)).or_insert(standing);
            }
            for (standing, key) in standings.iter_mut().zip(keys(rows, &names)?) {
                if let Some(found) = known.get(&key) {
                    *standing = Some(standing.map_or(*found, |standing| standing.worse(*found)));
                }
            }
        }
        Ok(standings)
    }
}

// === impl Standing ===

impl Standing {
    fn read(rows: &RecordBatch, index: usize) -> Self {
        let number = |name| {
            let column = rows.column_by_name(name)?.as_primitive_opt::<Float64Type>()?;
            column.is_valid(index).then(|| column.value(index))
        };
        let presence =
            rows.column_by_name("presence").and_then(|column| column.as_string_opt::<i32>()).filter(|column| column.is_valid(index));
        let presence = presence.and_then(|column| PRESENCE.iter().position(|name| *name == column.value(index))).unwrap_or(0);
        Self { completeness: number("completeness"), age: number("age"), presence }
    }

    fn worse(self, other: Self) -> Self {
        let pick = |a: Option<f64>, b: Option<f64>, choose: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(choose(a, b)),
            (one, other) => one.or(other),
        };
        Self {
            completeness: pick(self.completeness, other.completeness, f64::min),
            age: pick(self.age, other.age, f64::max),
            presence: self.presence.max(other.presence),
        }
    }
}

trait IntoArray: Array + Sized + 'static {
    fn into_array(self) -> ArrayRef {
        Arc::new(self)
    }
}

impl<A: Array + Sized + 'static> IntoArray for A {}

fn by_window(rows: &RecordBatch, ends: &BTreeSet<Timestamp>) -> Result<BTreeMap<Timestamp, RecordBatch>, ArrowError> {
    let mut indices: BTreeMap<Timestamp, Vec<u64>> = BTreeMap::new();
    if let Some(column) = rows.column_by_name(WINDOW_END).and_then(|column| column.as_primitive_opt::<TimestampNanosecondType>()) {
        for (index, end) in column.iter().enumerate() {
            let end = end.map(Timestamp::from_nanos).filter(|end| ends.contains(end));
            if let Some(end) = end {
                indices.entry(end).or_default().push(index as u64);
            }
        }
    }
    indices.into_iter().map(|(end, indices)| Ok((end, take_record_batch(rows, &UInt64Array::from(indices))?))).collect()
}

fn start_of(rows: &RecordBatch) -> Option<Timestamp> {
    let starts = rows.column_by_name(WINDOW_START)?.as_primitive_opt::<TimestampNanosecondType>()?;
    arrow::compute::min(starts).map(Timestamp::from_nanos)
}

fn keys(rows: &RecordBatch, names: &[&String]) -> Result<Vec<Vec<u8>>, ArrowError> {
    let columns: Vec<ArrayRef> = names.iter().filter_map(|name| rows.column_by_name(name).cloned()).collect();
    if columns.is_empty() {
        return Ok(vec![Vec::new(); rows.num_rows()]);
    }
    let converter = RowConverter::new(columns.iter().map(|column| SortField::new(column.data_type().clone())).collect())?;
    Ok(converter.convert_columns(&columns)?.iter().map(|row| row.data().to_vec()).collect())
}
