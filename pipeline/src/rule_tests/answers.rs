//! What rules answer, and what the decider makes of it, as two tables.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use tracescale_core::capacity::Observed;
use tracescale_core::decide::{Decider, Decision, Demand, Proposal};
use tracescale_core::policy::Mode;
use tracescale_core::target::{MemoryRef, Objective, ServiceSelector, TargetName, TargetRef, TargetSpec};
use tracescale_core::time::Timestamp;
use tracescale_documents::RuleSpec;
use tracescale_queries::testbed::Testbed;

use super::{Failure, by_name};
use crate::rows;
use crate::rules::{Evaluator, RuleFailure, targets_table};

/// What each rule says of each target.
pub(super) const ANSWERS: &str = "answers";
/// What the decider, which remembers nothing, makes of it.
pub(super) const DECISIONS: &str = "decisions";

/// Both tables.
pub(super) struct Judged {
    pub(super) answers: RecordBatch,
    pub(super) decisions: RecordBatch,
}

/// A row of `targets`.
struct Target {
    spec: TargetSpec,
    observed: Option<Observed>,
    bounds: (u32, u32),
}

/// Evaluates every rule over the tables, and decides for every target.
pub(super) async fn judge(bed: &Testbed, rules: &[RuleSpec]) -> Result<Judged, Failure> {
    let (snapshot, now) = (bed.snapshot().await?, bed.now().await?);
    let targets = targets(&bed.rows("targets").await?, now)?;
    let table = targets.iter().map(|target| (&target.spec, target.observed.as_ref(), target.bounds.0, target.bounds.1));
    let table = targets_table(&table);
    let mut evaluator = Evaluator::default();
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut answered: Vec<(TargetName, Proposal)> = Vec::new();
    for rule in by_name(rules).into_values() {
        let said = evaluator.evaluate(rule, &snapshot, table.clone(), now).await.map_err(failed)?;
        if let Some(target) = said.ambiguous.first() {
            return Err(failed(RuleFailure::SeveralRows(target.clone())));
        }
        for (target, said) in said.proposals {
            answered.extend(said.into_iter().map(|proposal| (target.clone(), proposal)));
        }
    }
    let mut decisions = Vec::new();
    for target in &targets {
        proposals.clear();
        proposals.extend(answered.iter().filter(|(name, _)| *name == target.spec.name).map(|(_, proposal)| proposal.clone()));
        let serving: Vec<_> = rules.iter().filter(|rule| rule.serves(&target.spec.name)).map(RuleSpec::reference).collect();
        let observed = target.observed.clone().ok_or_else(tracescale_core::capacity::Unobserved::not_yet);
        decisions.push(Decider::new().decide(now, &target.spec, &observed, &serving, &proposals));
    }
    Ok(Judged { answers: answers(&answered)?, decisions: decided(&decisions)? })
}

fn failed(failure: RuleFailure) -> Failure {
    match failure {
        RuleFailure::Query(error) => Failure::Query(error),
        other => Failure::Target(other.to_string()),
    }
}

/// The rows of the table `targets`; a service has the name of its target unless the row says otherwise.
fn targets(table: &RecordBatch, now: Timestamp) -> Result<Vec<Target>, Failure> {
    let text = |name: &str, row| table.column_by_name(name).and_then(|column| rows::text(column, row));
    let number = |name: &str, row| table.column_by_name(name).and_then(|column| rows::number(column, row));
    let whole = |name: &str, row| {
        let number = number(name, row);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, which is meant")]
        number.map(|number| number as u32)
    };
    let target = |row| {
        let name = text("target", row).unwrap_or("NULL");
        let name = TargetName::try_new(name).map_err(|error| Failure::Target(error.to_string()))?;
        let replicas = whole("current", row);
        let service_name = text("service_name", row).unwrap_or(name.as_str()).to_owned();
        let observed = |desired| Observed::replicas(desired, whole("ready", row), now);
        let spec = TargetSpec {
            reference: TargetRef::Memory(MemoryRef { name: name.as_str().to_owned(), replicas: replicas.unwrap_or_default() }),
            service: ServiceSelector { service_name, service_namespace: text("service_namespace", row).map(str::to_owned) },
            paused: table.column_by_name("paused").is_some_and(|column| rows::value(column, row).as_bool() == Some(true)),
            take_over: false,
            override_: None,
            discovered: false,
            objective: number("slo_latency", row)
                .and_then(|latency| Duration::try_from_secs_f64(latency).ok())
                .and_then(|latency| Objective::new(latency, number("slo_quantile", row).unwrap_or(0.99))),
            servers: whole("servers", row).and_then(NonZeroU32::new),
            workers: whole("workers", row).and_then(NonZeroU32::new),
            name,
        };
        Ok(Target { spec, observed: replicas.map(observed), bounds: (whole("min", row).unwrap_or(1), whole("max", row).unwrap_or(100)) })
    };
    (0..table.num_rows()).map(target).collect()
}

fn answers(answered: &[(TargetName, Proposal)]) -> Result<RecordBatch, Failure> {
    let said = |get: fn(&Proposal) -> Option<f64>| -> ArrayRef {
        Arc::new(answered.iter().map(|(_, proposal)| get(proposal)).collect::<Float64Array>())
    };
    let missing = |proposal: &Proposal| if let Demand::Missing(reason) = proposal.demand { Some(reason.as_str()) } else { None };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("rule", Arc::new(answered.iter().map(|(_, proposal)| Some(proposal.rule.as_str())).collect::<StringArray>())),
        ("target", Arc::new(answered.iter().map(|(target, _)| Some(target.as_str())).collect::<StringArray>())),
        ("replicas", said(|proposal| if let Demand::Replicas(replicas) = proposal.demand { Some(replicas) } else { None })),
        ("cpu", said(|proposal| Some(f64::from(u32::try_from(proposal.evidence.wish?.resources.cpu?).ok()?) / 1000.0))),
        ("memory", said(|proposal| bytes(proposal.evidence.wish?.resources.memory))),
        ("memory_limit", said(|proposal| bytes(proposal.evidence.wish?.resources.memory_limit))),
        ("missing", Arc::new(answered.iter().map(|(_, proposal)| missing(proposal)).collect::<StringArray>())),
        ("is_final", Arc::new(answered.iter().map(|(_, proposal)| proposal.evidence.is_final).collect::<BooleanArray>())),
    ];
    table(columns)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 bytes")]
fn bytes(bytes: Option<u64>) -> Option<f64> {
    bytes.map(|bytes| bytes as f64)
}

fn decided(decisions: &[Decision]) -> Result<RecordBatch, Failure> {
    let text = |get: fn(&Decision) -> Option<&str>| -> ArrayRef { Arc::new(decisions.iter().map(get).collect::<StringArray>()) };
    let whole = |get: fn(&Decision) -> Option<u32>| -> ArrayRef {
        Arc::new(decisions.iter().map(|decision| get(decision).map(i64::from)).collect::<Int64Array>())
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("target", text(|decision| Some(decision.target.as_str()))),
        ("action", text(|decision| Some(decision.action.as_str()))),
        ("rule", text(|decision| decision.chosen_rule.as_ref().map(tracescale_core::policy::RuleName::as_str))),
        ("current", whole(|decision| decision.current)),
        ("proposed", whole(|decision| decision.proposed)),
        ("desired", whole(|decision| decision.desired)),
        ("reason", text(|decision| Some(decision.reason.as_str()))),
        ("mode", text(|decision| Some(Mode::as_str(decision.mode)))),
    ];
    table(columns)
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch, Failure> {
    let fields: Vec<Field> = columns.iter().map(|(name, column)| Field::new(*name, column_type(column), true)).collect();
    let arrays = columns.into_iter().map(|(_, column)| column).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

fn column_type(column: &ArrayRef) -> DataType {
    column.data_type().clone()
}
