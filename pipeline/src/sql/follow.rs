//! `sql --follow`: a query over each final window as it comes, from the write-ahead log of a running process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use tracescale_archive::wal::{Lsn, Reader};
use tracescale_core::time::Timestamp;
use tracescale_queries::{Past, PastLimits, PastTable};

use super::output::{self, Format};
use crate::archived::nullable;
use crate::logged::{self, Logged, Window};
use crate::recorded::Source;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of bodies read at once.
const READ_BYTES: usize = 4 << 20;

/// Windows that the query has not seen, by end and view.
type Fresh = BTreeMap<Timestamp, BTreeMap<String, Vec<RecordBatch>>>;

/// Runs until it is interrupted.
///
/// # Errors
/// When there is no log here, it cannot be read, or the query is wrong or fails.
pub(crate) async fn run(source: &Source, sql: &str, format: Format, limits: PastLimits) -> anyhow::Result<()> {
    let Source::Archive { wal_dir, .. } = source else { bail!("a capture has an end; leave out --follow") };
    let views = Past::reads(sql)?;
    let mut log = open(wal_dir)?;
    let mut position = skip(&mut log)?;
    let mut fresh = Fresh::new();
    loop {
        let records = log.read(position, READ_BYTES)?;
        let Some(last) = records.last() else {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => continue,
                interrupted = tokio::signal::ctrl_c() => return interrupted.context("signals"),
            }
        };
        position = Lsn(last.lsn.0 + 1);
        for record in &records {
            if let Ok(Logged::Window(window)) = logged::read(&record.entry)
                && views.contains(&window.view)
            {
                add(&mut fresh, window);
            }
        }
        for windows in take_complete(&mut fresh, &views) {
            answer(sql, windows, format, limits).await?;
        }
    }
}

fn open(wal_dir: &Path) -> anyhow::Result<Reader> {
    Reader::open(wal_dir).with_context(|| {
        format!("no write-ahead log in {}; hint: --data-dir names the directory of a `tracescale run` on this machine", wal_dir.display())
    })
}

/// Passes over what is there.
fn skip(log: &mut Reader) -> anyhow::Result<Lsn> {
    let mut position = Lsn(1);
    loop {
        let records = log.read(position, READ_BYTES)?;
        let Some(last) = records.last() else { return Ok(position) };
        position = Lsn(last.lsn.0 + 1);
    }
}

fn add(fresh: &mut Fresh, window: Window) {
    fresh.entry(window.end).or_default().entry(window.view).or_default().push(window.rows);
}

/// Windows that every view of the query has, oldest first; and older ones, which will not be completed any more.
fn take_complete(fresh: &mut Fresh, views: &BTreeSet<String>) -> Vec<BTreeMap<String, Vec<RecordBatch>>> {
    let newest = fresh.iter().rev().find(|(_, windows)| windows.len() == views.len()).map(|(end, _)| *end);
    let Some(newest) = newest else { return Vec::new() };
    let later = fresh.split_off(&(newest + Duration::from_nanos(1)));
    std::mem::replace(fresh, later).into_values().collect()
}

/// Runs the query over one window.
async fn answer(sql: &str, windows: BTreeMap<String, Vec<RecordBatch>>, format: Format, limits: PastLimits) -> anyhow::Result<()> {
    let table = |(name, rows): (String, Vec<RecordBatch>)| {
        let schema = nullable(&rows.first()?.schema());
        Some(PastTable { name, schema, time_column: "window_end".to_owned(), files: Vec::new(), rows })
    };
    let past = Past::new(windows.into_iter().filter_map(table).collect(), None, limits)?;
    let query = past.prepare(sql).await?;
    let rows = query.collect().await?;
    if rows.iter().any(|rows| rows.num_rows() > 0) {
        output::batches(&query.schema(), &rows, format)?;
    }
    Ok(())
}
