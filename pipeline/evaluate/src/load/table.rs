//! Comma separated tables with a header: a column of times, a column of numbers. And plain columns of numbers.

use std::path::Path;

use super::LoadError;
use super::text::{cells, number, read, seconds, wrong};

/// Times and numbers of two columns. Rows with an empty number are left out.
pub(super) fn rows(path: &Path, time: &'static str, value: &'static str) -> Result<Vec<(i64, f64)>, LoadError> {
    let text = read(path)?;
    let (times, values) = (column(path, &text, time)?, column(path, &text, value)?);
    let mut found = Vec::new();
    for (place, line) in text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()) {
        let at = cells(line).nth(times).and_then(seconds).ok_or_else(|| wrong(path, place, line, "a row with a time"))?;
        let cell = cells(line).nth(values).ok_or_else(|| wrong(path, place, line, "a row with all columns"))?;
        if !cell.is_empty() {
            found.push((at, number(cell).ok_or_else(|| wrong(path, place, line, "a row with a number"))?));
        }
    }
    Ok(found)
}

/// Times of one column, each an event.
pub(super) fn events(path: &Path, time: &'static str) -> Result<Vec<(i64, f64)>, LoadError> {
    let text = read(path)?;
    let times = column(path, &text, time)?;
    let event = |(place, line): (usize, &str)| {
        let at = cells(line).nth(times).and_then(seconds);
        at.map(|at| (at, 1.0)).ok_or_else(|| wrong(path, place, line, "a row with a time"))
    };
    text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()).map(event).collect()
}

/// Numbers, one a line; a first line that is no number is a header.
pub(super) fn lines(path: &Path) -> Result<Vec<f64>, LoadError> {
    let text = read(path)?;
    let header = usize::from(text.lines().next().is_some_and(|line| number(line.trim()).is_none()));
    let parse = |(place, line): (usize, &str)| number(line.trim()).ok_or_else(|| wrong(path, place, line, "a number"));
    text.lines().enumerate().skip(header).filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
}

/// Numbers of a LIMBO trace: `x,y;` with `x` in the middle of each hour.
pub(super) fn limbo(path: &Path) -> Result<Vec<f64>, LoadError> {
    let text = read(path)?;
    let mut found = Vec::new();
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (at, value) = line.trim().trim_end_matches(';').split_once(',').unwrap_or_default();
        let pair = number(at).zip(number(value)).ok_or_else(|| wrong(path, place, line, "`x,y;`"))?;
        #[expect(clippy::cast_precision_loss, reason = "a number of lines is far below 2^52")]
        let expected = found.len() as f64 + 0.5;
        if (pair.0 - expected).abs() > 1e-6 {
            return Err(wrong(path, place, line, "the hour after the line before"));
        }
        found.push(pair.1);
    }
    Ok(found)
}

fn column(path: &Path, text: &str, name: &'static str) -> Result<usize, LoadError> {
    let header = text.lines().next().unwrap_or_default();
    let missing = || LoadError::Column { path: path.to_owned(), column: name, header: header.chars().take(200).collect() };
    cells(header).position(|cell| cell == name).ok_or_else(missing)
}
