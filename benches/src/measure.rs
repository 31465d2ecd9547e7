//! Measuring: processor time of this thread and of other processes, repeated and paired runs, the machine, and tables.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use cpu_time::ThreadTime;
use tracescale_core::time::Timestamp;

/// A point on both clocks of the calling thread.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: ThreadTime,
}

/// What went by since a [`Stopwatch`] was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed {
    /// Time on the wall.
    pub wall: Duration,
    /// Time of this thread on a processor.
    pub cpu: Duration,
}

/// Minimum, median and maximum of repeated measurements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// A Markdown table that is aligned for a terminal.
#[derive(Clone, Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

// === impl Stopwatch ===

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { wall: instant(), cpu: ThreadTime::now() }
    }

    /// What went by.
    #[must_use]
    pub fn elapsed(&self) -> Elapsed {
        Elapsed { cpu: self.cpu.elapsed(), wall: instant().duration_since(self.wall) }
    }
}

// === impl Elapsed ===

impl std::ops::AddAssign for Elapsed {
    fn add_assign(&mut self, rhs: Self) {
        self.wall += rhs.wall;
        self.cpu += rhs.cpu;
    }
}

// === impl Spread ===

impl Spread {
    /// Of these values; zeros when there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let last = values.len().saturating_sub(1);
        Self { min: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), max: at(last) }
    }

    /// Of the quotients of two paired series.
    #[must_use]
    pub fn ratio(numerators: &[f64], denominators: &[f64]) -> Self {
        let quotients: Vec<f64> = numerators.iter().zip(denominators).map(|(above, below)| above / below).collect();
        Self::of(&quotients)
    }
}

impl fmt::Display for Spread {
    /// `median (min–max)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median.abs() < 10.0 { 2 } else { 0 };
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

// === impl Table ===

impl Table {
    /// A table with these column titles.
    #[must_use]
    pub fn new(titles: &[&str]) -> Self {
        Self { rows: vec![titles.iter().map(|title| (*title).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: &[&dyn fmt::Display]) {
        self.rows.push(cells.iter().map(ToString::to_string).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for width in &widths {
                    write!(f, "|{:-<1$}", "", width + 2)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

/// Nanoseconds per item.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a measurement")]
pub fn nanos_per(elapsed: Duration, items: u64) -> f64 {
    elapsed.as_nanos() as f64 / items.max(1) as f64
}

/// A count as a float, for ratios.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a measurement")]
pub const fn float(count: u64) -> f64 {
    count as f64
}

/// The wall clock; the one reader in the benchmarks.
#[must_use]
pub fn now() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "a benchmark lives in real time")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::EPOCH + since.unwrap_or_default()
}

/// The monotonic clock; the one reader in the benchmarks.
#[must_use]
pub fn instant() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    Instant::now()
}

/// One line about the machine: processor, cores, memory, load.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn machine() -> Result<String> {
    let read = |path: &'static str| std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
    let field = |text: &str, name: &str| -> String {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let processor = read("/proc/cpuinfo")?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kilobytes: u64 = field(&read("/proc/meminfo")?, "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let load = read("/proc/loadavg")?.split_whitespace().next().unwrap_or("?").to_owned();
    Ok(format!(
        "{} (family {} model {}), {cores} cores, {:.1} GiB; load average {load} at the start",
        field(&processor, "model name"),
        field(&processor, "cpu family"),
        field(&processor, "model\t"),
        float(kilobytes) / 1_048_576.0,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the median of an even count lies between its two middle values.
    #[test]
    fn spread_has_the_median() {
        assert_eq!(Spread::of(&[4.0, 1.0, 2.0, 3.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
        assert_eq!(Spread::of(&[]), Spread { min: 0.0, median: 0.0, max: 0.0 });
        assert_eq!(Spread::ratio(&[2.0, 9.0], &[1.0, 3.0]).to_string(), "2.50 (2.00–3.00)");
    }

    /// Guarantees: a table is Markdown.
    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new(&["what", "ns"]);
        table.row(&[&"decode", &17]);
        assert_eq!(table.to_string(), "| what   | ns |\n|--------|----|\n| decode | 17 |\n");
    }
}
