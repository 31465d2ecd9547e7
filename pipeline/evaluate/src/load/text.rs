//! Files as lines, within a bound.

use std::fs;
use std::path::Path;

use chrono::{NaiveDate, NaiveDateTime};

use super::LoadError;

/// The most bytes of a recording: many times the largest of the data folder.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(failed)?.len();
    if bytes > BYTES_MAX {
        return Err(LoadError::Large { path: path.to_owned(), bytes, most: BYTES_MAX });
    }
    fs::read_to_string(path).map_err(failed)
}

/// A line that does not say what it should; `place` counts from zero.
pub(super) fn wrong(path: &Path, place: usize, text: &str, expected: &'static str) -> LoadError {
    let text = text.chars().take(80).collect();
    LoadError::Line { path: path.to_owned(), line: place + 1, text, expected }
}

/// The cells of a line. None of the recordings has commas within quotes before the columns that are used.
pub(super) fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| cell.trim().trim_matches('"'))
}

/// A finite number.
pub(super) fn number(cell: &str) -> Option<f64> {
    cell.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Whole seconds since the epoch of a time or a date, as the clock on the wall showed it.
pub(super) fn seconds(cell: &str) -> Option<i64> {
    let time = NaiveDateTime::parse_from_str(cell, "%Y-%m-%d %H:%M:%S%.f").ok();
    let date = || date(cell, "%Y-%m-%d").or_else(|| date(cell, "%d/%m/%y"));
    time.or_else(date).map(|time| time.and_utc().timestamp())
}

fn date(cell: &str, format: &str) -> Option<NaiveDateTime> {
    NaiveDate::parse_from_str(cell, format).ok()?.and_hms_opt(0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: the forms of time in the recordings are understood, others are not.
    #[test]
    fn forms_of_time() {
        assert_eq!(seconds("1995-07-01 00:01:00"), Some(804_556_860));
        assert_eq!(seconds("2023-11-16 18:17:03.9799600"), Some(1_700_158_623));
        assert_eq!((seconds("1/7/20"), seconds("2020-07-01")), (Some(1_593_561_600), Some(1_593_561_600)));
        assert_eq!((seconds("13:00"), number("nan"), number("1.5")), (None, None, Some(1.5)));
    }
}
