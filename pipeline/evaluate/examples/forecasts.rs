//! The evaluation of forecasts on recorded series. Arguments: the data folder, `last` (or `before`: the days before those that are
//! judged usually), and series to take instead of all.

use std::io::Write;
use std::path::PathBuf;

use tracescale_evaluate::forecasts::{Days, evaluate, evaluate_some};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map(PathBuf::from).ok_or("the first argument is the data folder")?;
    let days = if arguments.next().as_deref() == Some("before") { Days::Before } else { Days::Last };
    let names: Vec<String> = arguments.collect();
    let report = if names.is_empty() && days == Days::Last {
        evaluate(&root)?
    } else {
        evaluate_some(&root, days, |name| names.is_empty() || names.iter().any(|chosen| chosen == name))?
    };
    std::io::stdout().write_all(report.text().as_bytes())?;
    Ok(())
}
