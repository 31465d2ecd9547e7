//! Evaluating a rule: its SQL over the views and the `targets` table, and its rows as proposals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::Value;
use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Demand, Evidence, MissingReason, Presence, Proposal, Scalar, Wish};
use tracescale_core::policy::RuleName;
use tracescale_core::target::{TargetName, TargetRef, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::{Prepared, QueryError, QueryLimits, Snapshot};

use crate::{columns, rows};

/// Longest one run of a rule's query may take.
const QUERY_MAX: Duration = Duration::from_secs(5);
/// Plans of one rule that are kept: those of its newest version and of the one before.
const PLANS_MAX: usize = 2;

/// What a rule said.
#[derive(Debug, Default)]
pub struct Answers {
    /// Its rows by target; more than one where it returned a provisional and a final window.
    pub proposals: BTreeMap<TargetName, Vec<Proposal>>,
    /// Values of its `target` column that are not names.
    pub not_names: BTreeSet<String>,
    /// Targets for which it returned several rows of one window: what it says of them is missing.
    pub ambiguous: BTreeSet<TargetName>,
}

/// Why a rule said nothing.
#[derive(Debug, thiserror::Error)]
pub enum RuleFailure {
    /// Its SQL failed.
    #[error("the query failed")]
    Query(#[source] QueryError),
    /// Its rows lack a column.
    #[error("no column `{0}` among the query's columns {1:?}; hint: name it with `AS {0}`")]
    NoColumn(&'static str, Vec<String>),
    /// It returned several rows for one target.
    #[error("several rows for target `{0}`; hint: a rule returns one row per target, for example with `WHERE window_end = latest()`")]
    SeveralRows(TargetName),
    /// Too many evaluations wait for the thread that does them.
    #[error("too many evaluations are waiting")]
    QueueFull,
}

/// Evaluates rules; plans each query once.
#[derive(Debug, Default)]
pub struct Evaluator {
    /// By rule, with their SQL, the last used one last: while one version of a rule replaces another, both are evaluated.
    plans: BTreeMap<RuleName, Vec<(String, Prepared)>>,
}

// === impl RuleFailure ===

impl RuleFailure {
    /// True when the rule has no answer for anybody because of what it is, as far as one evaluation can tell.
    #[must_use]
    pub const fn is_the_rules(&self) -> bool {
        match self {
            Self::Query(_) | Self::NoColumn(..) => true,
            Self::SeveralRows(_) | Self::QueueFull => false,
        }
    }
}

// === impl Evaluator ===

impl Evaluator {
    /// Evaluates one rule at `now`, over the newest windows and again over the newest final ones: the first answer is fast
    /// enough to scale out on, the second complete enough to scale in on.
    ///
    /// # Errors
    /// When the query fails or its rows cannot be read.
    #[tracing::instrument(name = "evaluate rule", skip_all, fields(rule = %rule.name))]
    pub async fn evaluate(
        &mut self,
        rule: &RuleSpec,
        snapshot: &Snapshot,
        targets: RecordBatch,
        now: Timestamp,
    ) -> Result<Answers, RuleFailure> {
        let plans = self.plans.entry(rule.name.clone()).or_default();
        if let Some(place) = plans.iter().position(|(sql, _)| *sql == rule.sql) {
            plans[place..].rotate_left(1);
        } else {
            let schema: [(&str, SchemaRef); 1] = [("targets", targets.schema())];
            // Two runs fit into an interval: a rule that takes longer must not hold up the others.
            let limits = QueryLimits { time: (rule.every / 2).min(QUERY_MAX), ..QueryLimits::default() };
            let prepared = snapshot.prepare_within(&rule.sql, &schema, limits).await.map_err(RuleFailure::Query)?;
            if plans.len() >= PLANS_MAX {
                let _ = plans.remove(0);
            }
            plans.push((rule.sql.clone(), prepared));
        }
        let mut answers = Answers::default();
        if let Some((_, plan)) = plans.last_mut() {
            let extra = [("targets", targets)];
            let newest = plan.run(snapshot, &extra).await.map_err(RuleFailure::Query)?;
            let finals = plan.run_final(snapshot, &extra).await.map_err(RuleFailure::Query)?;
            read_all(rule, &newest, now, &mut answers)?;
            let mut complete = Answers::default();
            read_all(rule, &finals, now, &mut complete)?;
            answers.add(complete);
        }
        for target in &answers.ambiguous {
            let missing = Proposal::new(rule.name.clone(), now, Demand::Missing(MissingReason::RuleFailed), Evidence::default());
            let _ = answers.proposals.insert(target.clone(), vec![missing]);
        }
        Ok(answers)
    }
}

// === impl Answers ===

impl Answers {
    /// What a rule said, and what was wrong with it: a rule that says several things of one target still speaks for the others.
    #[must_use]
    pub fn with_failure(said: Result<Self, RuleFailure>) -> (Option<Self>, Option<RuleFailure>) {
        match said {
            Ok(answers) => {
                let several = answers.ambiguous.first().cloned().map(RuleFailure::SeveralRows);
                (Some(answers), several)
            }
            Err(failure) => (None, Some(failure)),
        }
    }

    /// Adds what the same rule says over final windows: nothing while there is none, and nothing new where it reads no windows.
    fn add(&mut self, complete: Self) {
        for (target, proposals) in complete.proposals {
            let said = self.proposals.entry(target).or_default();
            let new = |proposal: &Proposal| said.is_empty() || (matches!(proposal.demand, Demand::Replicas(_)) && !said.contains(proposal));
            let new: Vec<_> = proposals.into_iter().filter(new).collect();
            said.extend(new);
        }
        self.not_names.extend(complete.not_names);
        self.ambiguous.extend(complete.ambiguous);
    }
}

fn read_all(rule: &RuleSpec, batches: &[RecordBatch], now: Timestamp, answers: &mut Answers) -> Result<(), RuleFailure> {
    let mut seen = BTreeSet::new();
    batches.iter().try_for_each(|batch| read(rule, batch, now, &mut seen, answers))
}

fn read(
    rule: &RuleSpec,
    batch: &RecordBatch,
    now: Timestamp,
    seen: &mut BTreeSet<TargetName>,
    answers: &mut Answers,
) -> Result<(), RuleFailure> {
    let column = |name: &'static str| batch.column_by_name(name).ok_or_else(|| no_column(name, batch));
    let (targets, replicas) = (column("target")?, column("replicas")?);
    let evidence = Columns::of(batch);
    for row in 0..batch.num_rows() {
        let text = rows::text(targets, row).unwrap_or("NULL");
        let Ok(target) = TargetName::try_new(text) else {
            let _ = answers.not_names.insert(text.to_owned());
            continue;
        };
        let demand = Demand::from_column(rows::number(replicas, row).or_else(|| not_a_number(replicas, row)));
        let proposal = Proposal::new(rule.name.clone(), now, demand, evidence.read(row, now));
        if !seen.insert(target.clone()) {
            let _ = answers.ambiguous.insert(target);
            continue;
        }
        let said = answers.proposals.entry(target).or_default();
        said.push(proposal);
    }
    Ok(())
}

/// NaN and infinities are not NULL: the record says which it was.
fn not_a_number(column: &ArrayRef, row: usize) -> Option<f64> {
    column.is_valid(row).then_some(f64::NAN)
}

fn no_column(name: &'static str, batch: &RecordBatch) -> RuleFailure {
    RuleFailure::NoColumn(name, batch.schema().fields().iter().map(|field| field.name().clone()).collect())
}

/// The evidence columns of a batch, looked up once.
struct Columns<'a> {
    batch: &'a RecordBatch,
    inputs: Vec<(&'a str, &'a ArrayRef)>,
}

// === impl Columns ===

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        let fields = batch.schema_ref().fields().iter().zip(batch.columns());
        let inputs = fields.filter(|(field, _)| !columns::is_known(field.name()));
        Self { batch, inputs: inputs.map(|(field, column)| (field.name().as_str(), column)).collect() }
    }

    fn read(&self, row: usize, now: Timestamp) -> Evidence {
        let number = |name: &str| self.batch.column_by_name(name).and_then(|column| rows::number(column, row));
        let value = |name| self.batch.column_by_name(name).map(|column| rows::value(column, row));
        let presence = match self.batch.column_by_name("presence").and_then(|column| rows::text(column, row)) {
            Some("active") => Some(Presence::Active),
            Some("idle") => Some(Presence::Idle),
            Some("missing") => Some(Presence::Missing),
            _ => None,
        };
        Evidence {
            window_end: self.batch.column_by_name("window_end").and_then(|column| rows::time(column, row)),
            is_final: value("is_final").and_then(|value| value.as_bool()),
            n_eff: number("n_eff"),
            confidence: number("confidence"),
            completeness: number("completeness"),
            age_seconds: number("age"),
            presence,
            evidence_time: number("age").and_then(|age| Duration::try_from_secs_f64(age).ok()).map(|age| now - age),
            wish: Wish::from_row(number),
            inputs: self.inputs.iter().map(|(name, column)| ((*name).to_owned(), scalar(column, row))).collect(),
        }
    }
}

fn scalar(column: &ArrayRef, row: usize) -> Scalar {
    match rows::value(column, row) {
        Value::Null => Scalar::Null,
        Value::Bool(value) => Scalar::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) if !number.is_f64() => Scalar::Int(whole),
            (_, Some(float)) => Scalar::Float(float),
            _ => Scalar::Text(number.to_string()),
        },
        Value::String(text) => Scalar::Text(text),
        other => Scalar::Text(other.to_string()),
    }
}

/// The `targets` table that rules join: one row per target with what is known of it.
pub fn targets_table<'a>(targets: &(impl Iterator<Item = (&'a TargetSpec, Option<&'a Observed>, u32, u32)> + Clone)) -> RecordBatch {
    let strings = |get: fn(&TargetSpec) -> Option<&str>| -> ArrayRef {
        Arc::new(targets.clone().map(|(spec, ..)| get(spec)).collect::<StringArray>())
    };
    let observed = |get: fn(&Observed) -> Option<u32>| -> ArrayRef {
        Arc::new(targets.clone().map(|(_, observed, ..)| observed.and_then(get).map(i64::from)).collect::<Int64Array>())
    };
    let kind = |spec: &TargetSpec| -> Option<&str> {
        Some(match &spec.reference {
            TargetRef::Kubernetes(_) => "kubernetes",
            TargetRef::Memory(_) => "memory",
            _ => "other",
        })
    };
    let bound = |get: fn((u32, u32)) -> u32| -> ArrayRef {
        Arc::new(targets.clone().map(|(_, _, min, max)| Some(i64::from(get((min, max))))).collect::<Int64Array>())
    };
    let figure = |get: fn(&TargetSpec) -> Option<f64>| -> ArrayRef {
        Arc::new(targets.clone().map(|(spec, ..)| get(spec)).collect::<Float64Array>())
    };
    let columns: [(&str, ArrayRef); 13] = [
        ("target", strings(|spec| Some(spec.name.as_str()))),
        ("service_name", strings(|spec| Some(&spec.service.service_name))),
        ("service_namespace", strings(|spec| spec.service.service_namespace.as_deref())),
        ("kind", Arc::new(targets.clone().map(|(spec, ..)| kind(spec)).collect::<StringArray>())),
        ("current", observed(|observed| Some(observed.desired))),
        ("ready", observed(|observed| observed.ready)),
        ("min", bound(|(min, _)| min)),
        ("max", bound(|(_, max)| max)),
        ("paused", Arc::new(targets.clone().map(|(spec, ..)| Some(spec.paused)).collect::<BooleanArray>())),
        ("slo_latency", figure(|spec| spec.objective.map(|objective| objective.latency.as_secs_f64()))),
        ("slo_quantile", figure(|spec| spec.objective.map(|objective| objective.share()))),
        ("servers", figure(|spec| Some(spec.servers.map_or(1.0, |servers| f64::from(servers.get()))))),
        ("workers", figure(|spec| spec.workers.map(|workers| f64::from(workers.get())))),
    ];
    table(columns)
}

/// The schema of [`targets_table`].
#[must_use]
pub fn targets_schema() -> Schema {
    let text = |name| Field::new(name, DataType::Utf8, true);
    let whole = |name| Field::new(name, DataType::Int64, true);
    let figure = |name| Field::new(name, DataType::Float64, true);
    Schema::new(vec![
        text("target"),
        text("service_name"),
        text("service_namespace"),
        text("kind"),
        whole("current"),
        whole("ready"),
        whole("min"),
        whole("max"),
        Field::new("paused", DataType::Boolean, true),
        figure("slo_latency"),
        figure("slo_quantile"),
        figure("servers"),
        figure("workers"),
    ])
}

#[expect(clippy::expect_used, reason = "columns of one length in the types of the schema beside them")]
fn table<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(targets_schema()), arrays).expect("columns of the targets table")
}
