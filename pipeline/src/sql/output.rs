//! Rows as text or files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::FormatOptions;
use arrow::util::pretty::pretty_format_batches_with_options;
use futures::{Stream, StreamExt};
use tracescale_archive::parquet_rows::ParquetRows;
use tracescale_queries::{FilesRead, QueryError};

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with borders.
    #[default]
    Table,
    /// Comma-separated values with a header.
    Csv,
    /// A JSON object per line.
    Json,
    /// A Parquet file; needs `--out`.
    Parquet,
}

/// What a statement did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Rows of the result.
    pub rows: usize,
    /// Files that it read, by table.
    pub files: BTreeMap<String, FilesRead>,
    /// How long it took.
    pub took: Duration,
}

/// Most rows that a table shows: it is made as a whole. The other formats are written as rows come.
const TABLE_ROWS: usize = 10_000;

/// Something that batches are written to, one after the other.
enum Sink {
    Csv(arrow::csv::Writer<Box<dyn Write>>),
    Json(arrow::json::LineDelimitedWriter<Box<dyn Write>>),
    Parquet(ParquetRows<File>),
}

/// Writes rows as they come.
///
/// # Errors
/// When the query fails, or the file or standard output cannot be written.
pub(crate) async fn write(
    schema: SchemaRef,
    rows: impl Stream<Item = Result<RecordBatch, QueryError>>,
    format: Format,
    out: Option<&Path>,
) -> anyhow::Result<Summary> {
    let mut rows = pin!(rows);
    let mut summary = Summary::default();
    if format == Format::Table {
        let (mut shown, mut count) = (Vec::new(), 0);
        while let Some(batch) = rows.next().await {
            let batch = batch?;
            if count < TABLE_ROWS {
                shown.push(batch.slice(0, batch.num_rows().min(TABLE_ROWS - count)));
            }
            count += batch.num_rows();
        }
        summary.rows = count;
        table(&schema, &shown, out)?;
        if count > TABLE_ROWS {
            tell(&format!("the first {TABLE_ROWS} of {count} rows; hint: --format csv, json or parquet writes all of them"));
        }
        return Ok(summary);
    }
    let mut sink = Sink::new(&schema, format, out)?;
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        summary.rows += batch.num_rows();
        sink.write(&batch)?;
    }
    sink.finish()?;
    Ok(summary)
}

/// Writes batches that are all there to standard output.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn batches(schema: &SchemaRef, rows: &[RecordBatch], format: Format) -> anyhow::Result<()> {
    if format == Format::Table {
        return table(schema, rows, None);
    }
    let mut sink = Sink::new(schema, format, None)?;
    rows.iter().try_for_each(|batch| sink.write(batch))?;
    sink.finish()
}

/// Writes text that is the result.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn lines(text: &str) -> anyhow::Result<Summary> {
    super::print(text.trim_end())?;
    Ok(Summary::default())
}

/// Tells the user something that is no result.
pub(crate) fn tell(text: &str) {
    // Nobody may be there to hear it.
    let _ = writeln!(io::stderr(), "{text}");
}

fn table(schema: &SchemaRef, rows: &[RecordBatch], out: Option<&Path>) -> anyhow::Result<()> {
    let options = FormatOptions::default().with_null("").with_display_error(true);
    let empty = [RecordBatch::new_empty(SchemaRef::clone(schema))];
    let text = pretty_format_batches_with_options(if rows.is_empty() { &empty } else { rows }, &options)?.to_string();
    match out {
        Some(path) => std::fs::write(path, text + "\n").with_context(|| format!("file {}", path.display())),
        None => super::print(&text),
    }
}

// === impl Sink ===

impl Sink {
    fn new(schema: &SchemaRef, format: Format, out: Option<&Path>) -> anyhow::Result<Self> {
        let writer = || -> anyhow::Result<Box<dyn Write>> {
            Ok(match out {
                Some(path) => Box::new(BufWriter::new(File::create(path).with_context(|| format!("file {}", path.display()))?)),
                None => Box::new(BufWriter::new(io::stdout())),
            })
        };
        Ok(match format {
            Format::Csv => Self::Csv(arrow::csv::WriterBuilder::new().with_header(true).build(writer()?)),
            Format::Json => Self::Json(arrow::json::LineDelimitedWriter::new(writer()?)),
            Format::Parquet => {
                let Some(path) = out else { bail!("a Parquet file cannot go to standard output; hint: name it with --out") };
                let file = File::create(path).with_context(|| format!("file {}", path.display()))?;
                Self::Parquet(ParquetRows::new(file, schema)?)
            }
            Format::Table => bail!("a table is written as a whole"),
        })
    }

    fn write(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => writer.write(&texts(batch)?)?,
            Self::Json(writer) => writer.write(batch)?,
            Self::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => writer.into_inner().flush()?,
            Self::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner().flush()?;
            }
            Self::Parquet(writer) => writer.finish()?,
        }
        Ok(())
    }
}

/// Lists have no form in CSV: they are written as a table shows them.
fn texts(batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
    let is_nested = |index: &usize| batch.column(*index).data_type().is_nested();
    if !(0..batch.num_columns()).any(|index| is_nested(&index)) {
        return Ok(batch.clone());
    }
    let options = FormatOptions::default();
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !column.data_type().is_nested() {
            return Ok((field.name().clone(), std::sync::Arc::clone(column)));
        }
        let formatter = arrow::util::display::ArrayFormatter::try_new(column, &options)?;
        let texts: arrow::array::StringArray =
            (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect();
        Ok((field.name().clone(), std::sync::Arc::new(texts) as arrow::array::ArrayRef))
    });
    let columns = columns.collect::<Result<Vec<_>, arrow::error::ArrowError>>()?;
    Ok(RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))?)
}

// === impl Summary ===

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.rows == 1 { "" } else { "s" };
        write!(f, "{} row{plural} in {:.3} s", self.rows, self.took.as_secs_f64())?;
        for (table, FilesRead { of, read, bytes }) in &self.files {
            if *of > 0 {
                write!(f, "; {table}: {read} of {of} files")?;
                if *read > 0 {
                    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
                    let mib = *bytes as f64 / f64::from(1 << 20);
                    write!(f, ", {mib:.1} MiB")?;
                }
            }
        }
        Ok(())
    }
}
