//! Everything that was recorded, as tables to query: the archive with what is still in the write-ahead log, or a capture.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use tracescale_archive::file::FileMeta;
use tracescale_archive::wal::{self, Lsn};
use tracescale_archive::{Catalog, Location, Range};
use tracescale_core::schema::Stream;
use tracescale_ingest::decode::Declared;
use tracescale_queries::{Past, PastFile, PastLimits, PastTable};

use crate::archived::{self, Rows, nullable, reshaped};
use crate::captured::{Capture, Received};
use crate::config::Config;
use crate::keeping;
use crate::warning::chain;
use crate::windows;

/// Where recorded data are.
#[derive(Clone, Debug)]
pub enum Source {
    /// An archive, and the log of the process that writes to it where it is on this machine.
    Archive {
        /// The archive.
        location: Location,
        /// The log's directory.
        wal_dir: PathBuf,
        /// What is declared of the sampling of spans in the log.
        sampling: Declared,
    },
    /// A capture.
    Capture(PathBuf),
}

/// Most bytes of bodies that are read from the log: the archive takes them over within a minute or so.
const LOG_BYTES: usize = 512 << 20;
/// Bytes of bodies read at once.
const READ_BYTES: usize = 4 << 20;
/// The sender that all requests of a capture count as.
const SOURCE: &str = "capture";

/// The tables of a source.
///
/// # Errors
/// When it cannot be read; a file of the archive that is missing or damaged is an error of the query that needs it.
pub async fn open(source: &Source, config: &Config, limits: PastLimits) -> anyhow::Result<Past> {
    let Source::Capture(path) = source else { return tables(source, limits).await };
    let mut tables = BTreeMap::new();
    add_rows(&mut tables, capture_rows(path, config).await?);
    Ok(Past::new(tables.into_values().collect(), None, limits)?)
}

/// The tables of an archive; a capture has none without views.
///
/// # Errors
/// As [`open`].
pub async fn tables(source: &Source, limits: PastLimits) -> anyhow::Result<Past> {
    let Source::Archive { location, wal_dir, sampling } = source else { return Ok(Past::new(Vec::new(), None, limits)?) };
    let catalog = Catalog::open(location).await.with_context(|| format!("archive {location}"))?;
    if catalog.writers().is_empty() && !catalog.foreign().await?.is_empty() {
        anyhow::bail!("{location} holds Parquet files and no log that says which of them count; hint: v1/_log was lost, bring it back");
    }
    let mut tables = files(&catalog);
    add_rows(&mut tables, log_rows(&catalog, wal_dir, sampling)?);
    Ok(Past::new(tables.into_values().collect(), Some(catalog.store().objects()), limits)?)
}

fn files(catalog: &Catalog) -> BTreeMap<String, PastTable> {
    let table = |info: tracescale_archive::catalog::TableInfo| {
        let files = catalog.files(&info.name, &Range::default()).into_iter().map(file).collect();
        let schema = Stream::from_name(&info.name).map_or_else(|| in_nanoseconds(&info.schema), |stream| nullable(&stream.schema()));
        (info.name.clone(), PastTable { name: info.name, schema, time_column: info.time_column, files, rows: Vec::new() })
    };
    catalog.tables().into_iter().map(table).collect()
}

fn file(file: FileMeta) -> PastFile {
    let time = file.min_time.zip(file.max_time);
    PastFile { path: file.path, bytes: file.bytes, rows: file.rows, time, texts: file.bounds }
}

/// Tables in SQL have nanoseconds throughout, whatever files have.
fn in_nanoseconds(schema: &SchemaRef) -> SchemaRef {
    let field = |field: &Arc<Field>| match field.data_type() {
        DataType::Timestamp(_, zone) => field.as_ref().clone().with_data_type(DataType::Timestamp(TimeUnit::Nanosecond, zone.clone())),
        _ => field.as_ref().clone(),
    };
    nullable(&Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>())))
}

fn add_rows(tables: &mut BTreeMap<String, PastTable>, rows: Rows) {
    for (name, schema, rows) in rows.into_tables() {
        let time_column = archived::table(&name, Arc::clone(&schema), tracescale_archive::streams::Ids::Full).time_column;
        let table = tables.entry(name.clone()).or_insert_with(|| PastTable {
            name,
            schema: nullable(&schema),
            time_column,
            files: Vec::new(),
            rows: Vec::new(),
        });
        table.schema = merged(&table.schema, &schema);
        table.rows.extend(rows);
    }
    for table in tables.values_mut() {
        let schema = Arc::clone(&table.schema);
        table.rows.iter_mut().for_each(|rows: &mut RecordBatch| *rows = reshaped(rows, &schema));
    }
}

/// The columns of the archive, and what the newest rows have beyond them.
fn merged(known: &SchemaRef, newer: &SchemaRef) -> SchemaRef {
    let added = newer.fields().iter().filter(|field| known.field_with_name(field.name()).is_err());
    let fields: Vec<Field> = known.fields().iter().chain(added).map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}

/// What is in the log and not yet in the archive.
fn log_rows(catalog: &Catalog, wal_dir: &Path, sampling: &Declared) -> anyhow::Result<Rows> {
    let mut rows = Rows::default();
    let Some(writer) = keeping::writer(wal_dir)? else { return Ok(rows) };
    let through = catalog.writers().into_iter().find(|info| info.writer == writer).map_or(1, |info| info.through.max(1));
    let mut log = wal::Reader::open(wal_dir).with_context(|| format!("write-ahead log {}", wal_dir.display()))?;
    let (mut next, mut bytes) = (Lsn(through), 0);
    loop {
        let records = log.read(next, READ_BYTES)?;
        let Some(last) = records.last() else { return Ok(rows) };
        next = Lsn(last.lsn.0 + 1);
        for record in &records {
            bytes += record.entry.body.len();
            if let Err(error) = rows.take(&record.entry, sampling) {
                tracing::error!(lsn = record.lsn.0, error = %chain(&error), "a record of the write-ahead log is left out");
            }
        }
        if bytes > LOG_BYTES {
            tracing::warn!("the archive is far behind: the newest records of the write-ahead log are left out");
            return Ok(rows);
        }
    }
}

/// The rows of a capture, and the final windows that a run over it would have had.
async fn capture_rows(path: &Path, config: &Config) -> anyhow::Result<Rows> {
    let mut capture = Capture::open(path, config.sampling().clone(), config.disorder())?;
    let (mut engine, _) = config.engine().await.map_err(|problems| anyhow::anyhow!("{} views do not work", problems.len()))?;
    let mut rows = Rows::default();
    let mut now = None;
    for received in capture.by_ref() {
        let Received { at: Some(at), decoded, .. } = received? else { continue };
        for emission in windows::step(&mut engine, now, at).await? {
            rows.add(&emission.view, emission.rows);
        }
        now = Some(at);
        for (stream, batch) in &decoded.batches {
            rows.add(stream.name(), batch.clone());
        }
        engine.push(SOURCE, decoded.batches, at).await?;
    }
    if let Some(end) = now {
        for emission in windows::step(&mut engine, now, end + config.settle_time()).await? {
            rows.add(&emission.view, emission.rows);
        }
    }
    capture.remarks(engine.stats()).iter().for_each(|remark| tracing::warn!("{remark}"));
    anyhow::ensure!(now.is_some(), "{} has no span and no metric point that counts; hint: record traces or metrics", path.display());
    Ok(rows)
}
