//! What was learned before a restart: by the models from the archive, because forecasts need weeks and memory peaks a week; by
//! the controller from its last decisions, which carry all that it remembers, and from the capacities of past weeks.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use tracescale_core::decide::{Decision, DecisionId};
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;
use tracescale_queries::{Engine, Past, PastLimits};

use crate::archived::DECISIONS;
use crate::conclusion::Conclusion;
use crate::controller::Controller;
use crate::recorded::{self, Source};
use crate::{journal, rows};

/// What is read of a view, how far back, and where its rows are too many for a quick start.
struct Lesson {
    view: &'static str,
    columns: &'static str,
    which: &'static str,
    days: u32,
}

/// The newest rows of these views; what is learned of older ones would be forgotten anyway.
const LESSONS: [Lesson; 5] = [
    Lesson {
        view: "service_queue",
        columns: "window_end, service_name, service_namespace, service_time, service_scv, servers, servers_from, pooling, load_bias, model_error, \
                  demoted, learned_samples, hold_time, service_distribution",
        which: MINUTES,
        days: 1,
    },
    Lesson { view: "service_sojourn", columns: "window_end, service_name, service_namespace, requests, presence", which: "true", days: 28 },
    Lesson {
        view: "service_pulse",
        columns: "window_end, service_name, service_namespace, completion_rate, presence",
        which: QUARTERS,
        days: 9,
    },
    Lesson {
        view: "service_usage",
        columns: "window_end, service_name, service_namespace, cpu_used, memory_used, last_oom_age",
        which: MINUTES,
        days: 7,
    },
    Lesson {
        view: "operation_demand",
        columns: "window_end, service_name, service_namespace, operation, http_request_method, completion_rate, cpu_rate, cpu_from",
        which: MINUTES,
        days: 1,
    },
];
/// Of windows that overlap, one a minute.
const MINUTES: &str = "window_end = date_trunc('minute', window_end)";
/// The same, four a minute: those that a planner learns from.
const QUARTERS: &str = "window_end = date_bin(INTERVAL '15 seconds', window_end)";
/// Most rows of one view: some ten seconds of reading.
const ROWS_MAX: u64 = 20_000_000;
/// Memory for sorting them.
const MEMORY: usize = 512 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// Longest a start waits for it.
const WAIT: Duration = Duration::from_secs(30);

/// Files of the journal that the last decisions are looked for in.
const JOURNALS: usize = 2;
/// What a target's replicas were hour by hour. What is usual at an hour of the week is learned from four of them.
const HOURS: &str = "SELECT target, date_trunc('hour', at) AS hour, quantile(CAST(current AS DOUBLE), 0.95, 1.0) AS replicas FROM decisions \
                     WHERE current IS NOT NULL AND at > TIMESTAMP '{from}' GROUP BY target, hour ORDER BY hour";
const HOURS_DAYS: u32 = 28;

/// Reminds a controller of the last decisions that an earlier process wrote down. It can do without: whatever fails is told.
pub fn decisions(controller: &mut Controller, data_dir: &Path) {
    match remembered(data_dir) {
        Ok(last) if last.is_empty() => {}
        Ok(last) => {
            last.values().for_each(|(decision, ended)| controller.remember(decision, ended.as_ref()));
            tracing::info!(targets = last.len(), "decisions go on from those that were written down");
        }
        Err(error) => tracing::warn!(%error, "decisions begin anew: the journal cannot be read"),
    }
}

/// The last decision about each target, and what became of its order.
fn remembered(data_dir: &Path) -> std::io::Result<BTreeMap<TargetName, (Decision, Option<Conclusion>)>> {
    let mut last: BTreeMap<TargetName, (Decision, Option<Conclusion>)> = BTreeMap::new();
    let unreadable = journal::newest(data_dir, JOURNALS, |decision: Decision| {
        let _ = last.insert(decision.target.clone(), (decision, None));
    })?;
    if unreadable > 0 {
        tracing::warn!(lines = unreadable, "lines of the journal cannot be read and are passed over; each kill may leave one");
    }
    let of: BTreeMap<DecisionId, TargetName> = last.values().map(|(decision, _)| (decision.id.clone(), decision.target.clone())).collect();
    let _ = journal::newest(data_dir, JOURNALS, |conclusion: Conclusion| {
        let target = of.get(&conclusion.concludes).and_then(|target| last.get_mut(target));
        if let Some((_, ended)) = target {
            *ended = Some(conclusion);
        }
    })?;
    Ok(last)
}

/// Teaches an engine and a controller what an archive remembers. They can do without: whatever fails is told, and the process starts.
pub async fn recall(engine: &mut Engine, controller: &mut Controller, source: &Source, now: Timestamp) {
    if tokio::time::timeout(WAIT, read(engine, controller, source, now)).await.is_err() {
        tracing::warn!(seconds = WAIT.as_secs(), "models begin with what could be read of the archive in time");
    }
}

async fn read(engine: &mut Engine, controller: &mut Controller, source: &Source, now: Timestamp) {
    let limits = PastLimits { memory: MEMORY, ..PastLimits::default() };
    let past = match recorded::tables(source, limits).await {
        Ok(past) => past,
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "models begin anew: what was recorded cannot be read");
            return;
        }
    };
    for lesson in &LESSONS {
        if !past.tables().contains_key(lesson.view) {
            continue;
        }
        match teach(engine, &past, lesson, now).await {
            Ok(0) => {}
            Ok(rows) => tracing::info!(view = lesson.view, rows, "models remember what was recorded"),
            Err(error) => {
                tracing::warn!(view = lesson.view, error = format!("{error:#}"), "models begin anew: what was recorded cannot be read")
            }
        }
    }
    if past.tables().contains_key(DECISIONS)
        && let Err(error) = hours(controller, &past, now).await
    {
        tracing::warn!(error = format!("{error:#}"), "what is usual is learned anew: what was decided cannot be read");
    }
}

/// Reminds a controller of the replicas of past weeks.
async fn hours(controller: &mut Controller, past: &Past, now: Timestamp) -> anyhow::Result<()> {
    let query = past.prepare(&HOURS.replace("{from}", &(now - DAY * HOURS_DAYS).to_string())).await?;
    let mut batches = std::pin::pin!(query.run()?);
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let [target, hour, replicas] = ["target", "hour", "replicas"].map(|name| batch.column_by_name(name));
        let (Some(target), Some(hour), Some(replicas)) = (target, hour, replicas) else { continue };
        for row in 0..batch.num_rows() {
            let name = rows::text(target, row).and_then(|name| TargetName::try_from(name.to_owned()).ok());
            if let (Some(name), Some(hour), Some(replicas)) = (name, rows::time(hour, row), rows::number(replicas, row)) {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates; a number of replicas")]
                controller.remember_hour(&name, hour, replicas.round() as u32);
            }
        }
    }
    Ok(())
}

async fn teach(engine: &mut Engine, past: &Past, lesson: &Lesson, now: Timestamp) -> anyhow::Result<u64> {
    let Lesson { view, which, .. } = lesson;
    // An archive of an earlier version lacks what was added since.
    let schema = past.tables().get(*view).map(|table| &table.schema);
    let is_there = |column: &&str| schema.is_some_and(|schema| schema.column_with_name(column).is_some());
    let columns = lesson.columns.split(", ").filter(is_there).collect::<Vec<_>>().join(", ");
    let from = now - DAY * days(past, lesson);
    let sql = format!("SELECT {columns} FROM {view} WHERE window_end > TIMESTAMP '{from}' AND {which} ORDER BY window_end, revision");
    let query = past.prepare(&sql).await?;
    let mut batches = std::pin::pin!(query.run()?);
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        engine.teach(view, &batch);
    }
    Ok(rows)
}

/// As many days as are quickly read.
fn days(past: &Past, lesson: &Lesson) -> u32 {
    let Some(table) = past.tables().get(lesson.view) else { return 0 };
    let oldest = table.files.iter().filter_map(|file| Some(file.time?.0)).min();
    let newest = table.files.iter().filter_map(|file| Some(file.time?.1)).max();
    let (Some(oldest), Some(newest)) = (oldest, newest) else { return lesson.days };
    let rows: u64 = table.files.iter().map(|file| file.rows).sum();
    let kept = newest.since(oldest).as_secs().div_ceil(DAY.as_secs()).max(1);
    let quick = ROWS_MAX / (rows / kept).max(1);
    lesson.days.min(u32::try_from(quick.max(1)).unwrap_or(u32::MAX))
}
