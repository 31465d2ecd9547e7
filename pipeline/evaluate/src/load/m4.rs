//! The hourly series of the M4 contest: what was given, and what came then.

use std::path::Path;

use super::text::{cells, number, read, wrong};
use super::{FOLDER, LoadError};

/// A series of the contest.
#[derive(Clone, Debug, PartialEq)]
pub struct Contest {
    /// Its name, `H1` to `H414`.
    pub name: String,
    /// What was given.
    pub given: Vec<f64>,
    /// The 48 hours that came then.
    pub came: Vec<f64>,
}

/// Reads the 414 hourly series. They have no dates.
///
/// # Errors
/// When a file cannot be read, or both do not name the same series.
pub fn m4_hourly(root: &Path) -> Result<Vec<Contest>, LoadError> {
    let folder = root.join(FOLDER).join("m4-hourly");
    let (given, came) = (folder.join("Hourly-train.csv"), folder.join("Hourly-test.csv"));
    let (train, test) = (rows(&given)?, rows(&came)?);
    if train.len() != test.len() {
        return Err(LoadError::Empty { path: came });
    }
    let mut all = Vec::with_capacity(train.len());
    for (place, ((name, given), (other, came_then))) in train.into_iter().zip(test).enumerate() {
        if name != other {
            return Err(wrong(&came, place + 1, &other, "the series of the other file"));
        }
        all.push(Contest { name, given, came: came_then });
    }
    Ok(all)
}

/// Rows of a name and numbers, padded with empty cells.
fn rows(path: &Path) -> Result<Vec<(String, Vec<f64>)>, LoadError> {
    let row = |(place, line): (usize, &str)| {
        let mut cells = cells(line);
        let name = cells.next().unwrap_or_default().to_owned();
        let parse = |cell: &str| number(cell).ok_or_else(|| wrong(path, place, cell, "a number"));
        let numbers: Result<Vec<f64>, LoadError> = cells.take_while(|cell| !cell.is_empty()).map(parse).collect();
        numbers.map(|numbers| (name, numbers))
    };
    read(path)?.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty()).map(row).collect()
}
