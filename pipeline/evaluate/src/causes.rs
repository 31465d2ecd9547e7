//! Which service is the cause: labelled faults and negatives of recorded call graphs.
//!
//! Every window is judged by itself, with what came before it as normal, as a live system would. A capacity fault is found when
//! its service is the culprit of most of its windows that have one; a scale-out counts as wrong in any single window. Nothing is
//! fitted to a recording: all limits are those of `tracescale_models::cause`, which come from queueing theory and statistics.
//!
//! Rules, not limits, were learned from some of it, so these parts are no independent test of them. Calm minutes of spans and
//! 07:11 of Online Boutique showed that a mean wait alone proves no queue (hence the standing queue, the comparison of all callers
//! and the care with few windows); calm windows of PetShop showed that a rare slow call must not hold back a whole front door;
//! 03:53 in Online Boutique's metrics showed that a utilization on its way up is no capacity to spare. Train Ticket's metrics led
//! to no change.

use std::path::{Path, PathBuf};

pub use self::case::{Alarm, Calm, Case, Naive};
pub use self::recording::{Cpu, Minute, RecordedSpan, Recording, Side, Trace, recordings};
pub use self::report::{Report, Score, Section, Sensitivity};

mod case;
mod nezha;
mod petshop;
mod recording;
mod report;
mod table;
#[cfg(test)]
mod tests;
mod traces;

/// Why the evaluation could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}: is this the folder of the recorded data?", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} line {line}: {what}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A JSON document has another shape.
    #[error("{} is not the expected JSON", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Judges the recorded call graphs below `root`.
///
/// # Errors
/// When a recording is missing or cannot be read.
pub fn evaluate(root: &Path) -> Result<Report, Error> {
    let mut sections = Vec::new();
    for system in [nezha::System::online_boutique(root)?, nezha::System::train_ticket(root)?] {
        sections.push(system.metrics());
        sections.push(system.traces(false)?);
        sections.push(system.traces(true)?);
    }
    sections.push(petshop::section(root)?);
    Ok(Report { sections })
}
