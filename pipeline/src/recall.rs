//! What the models learned before a restart, from the archive: forecasts need weeks, and memory peaks a week.

use std::time::Duration;

use futures::StreamExt;
use tracescale_core::time::Timestamp;
use tracescale_queries::{Engine, Past, PastLimits};

use crate::recorded::{self, Source};

/// What is read of a view, how far back, and where its rows are too many for a quick start.
struct Lesson {
    view: &'static str,
    columns: &'static str,
    which: &'static str,
    days: u32,
}

/// The newest rows of these views; what is learned of older ones would be forgotten anyway.
const LESSONS: [Lesson; 4] = [
    Lesson {
        view: "service_queue",
        columns: "window_end, service_name, service_namespace, service_time, service_scv, pooling, load_bias, model_error, demoted, \
                  learned_samples",
        which: MINUTES,
        days: 1,
    },
    Lesson { view: "service_sojourn", columns: "window_end, service_name, service_namespace, requests, presence", which: "true", days: 28 },
    Lesson {
        view: "service_pulse",
        columns: "window_end, service_name, service_namespace, completion_rate, presence",
        which: "true",
        days: 9,
    },
    Lesson {
        view: "service_usage",
        columns: "window_end, service_name, service_namespace, cpu_used, memory_used, last_oom_age",
        which: MINUTES,
        days: 7,
    },
];
/// Of windows that overlap, one a minute.
const MINUTES: &str = "window_end = date_trunc('minute', window_end)";
/// Most rows of one view: some ten seconds of reading.
const ROWS_MAX: u64 = 20_000_000;
/// Memory for sorting them.
const MEMORY: usize = 512 << 20;
const DAY: Duration = Duration::from_secs(86_400);

/// Longest a start waits for it.
const WAIT: Duration = Duration::from_secs(30);

/// Teaches an engine what an archive remembers. The models can do without: whatever fails is told, and the process starts.
pub async fn recall(engine: &mut Engine, source: &Source, now: Timestamp) {
    if tokio::time::timeout(WAIT, read(engine, source, now)).await.is_err() {
        tracing::warn!(seconds = WAIT.as_secs(), "models begin with what could be read of the archive in time");
    }
}

async fn read(engine: &mut Engine, source: &Source, now: Timestamp) {
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
}

async fn teach(engine: &mut Engine, past: &Past, lesson: &Lesson, now: Timestamp) -> anyhow::Result<u64> {
    let Lesson { view, columns, which, .. } = lesson;
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
