//! The comparison of scaling on recorded series. Arguments: the data folder, by how much earlier the records shall end (`0s`, `4d`, and
//! for records of an hour `6m`), and series to take instead of all.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use tracescale_core::duration::parse;
use tracescale_evaluate::scaling::evaluate_some;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map(PathBuf::from).ok_or("the first argument is the data folder")?;
    let earlier = arguments.next().map_or(Ok(Duration::ZERO), |earlier| parse(&earlier))?;
    let names: Vec<String> = arguments.collect();
    let report = evaluate_some(&root, earlier, |name| names.is_empty() || names.iter().any(|chosen| chosen == name))?;
    std::io::stdout().write_all(report.text().as_bytes())?;
    Ok(())
}
