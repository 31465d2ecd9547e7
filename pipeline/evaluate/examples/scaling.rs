//! The comparison of scaling on recorded series. Arguments: the data folder, and series to take instead of all.

use std::io::Write;
use std::path::PathBuf;

use tracescale_evaluate::scaling::evaluate_some;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map(PathBuf::from).ok_or("the first argument is the data folder")?;
    let names: Vec<String> = arguments.collect();
    let report = evaluate_some(&root, |name| names.is_empty() || names.iter().any(|chosen| chosen == name))?;
    std::io::stdout().write_all(report.text().as_bytes())?;
    Ok(())
}
