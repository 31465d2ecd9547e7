//! `tracescale evaluate`: how well the models judge, on recorded series and labelled faults.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use serde::Serialize;
use tracescale_evaluate::{causes, forecasts, scaling};

use crate::cli::EvaluateArgs;
use crate::console;

mod engine;
mod speed;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum What {
    /// Forecasts against naive ones.
    Forecasts,
    /// The model against calibrated HPA, KPA and KEDA.
    Scaling,
    /// The service that is named for labelled faults: by the models alone, and by the engine from the recorded spans as OTLP.
    Causes,
    /// How long all models take for a thousand services; needs no data.
    Speed,
}

/// Labelled faults, by the models alone and through the engine.
#[derive(Serialize)]
struct Causes {
    #[serde(flatten)]
    models: causes::Report,
    engine: Vec<engine::Section>,
}

/// Runs the command.
///
/// # Errors
/// When the data cannot be read, or standard output fails.
pub fn main(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    match args.what {
        What::Forecasts => {
            let report = forecasts::evaluate(&data(args)?)?;
            tell(args, &report, || report.text())
        }
        What::Scaling => {
            let report = scaling::evaluate(&data(args)?, args.quick)?;
            tell(args, &report, || report.text())
        }
        What::Causes => {
            let report = Causes::evaluate(&data(args)?, args.quick)?;
            tell(args, &report, || report.text())
        }
        What::Speed => {
            let report = speed::measure()?;
            tell(args, &report, || report.text())
        }
    }
}

fn data(args: &EvaluateArgs) -> anyhow::Result<PathBuf> {
    let Some(data) = &args.data else {
        bail!("no folder with recorded series; hint: --data DIR, or the environment variable TRACESCALE_DATA");
    };
    let is_there = Path::new(data).join("load").is_dir();
    anyhow::ensure!(is_there, "{} has no folder `load`; hint: it is the folder that holds `load` and `calls`", data.display());
    Ok(data.clone())
}

fn tell<R: Serialize>(args: &EvaluateArgs, report: &R, text: impl Fn() -> String) -> anyhow::Result<ExitCode> {
    let text = if args.json { serde_json::to_string(report).context("report")? } else { text() };
    console::print_line(text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}

// === impl Causes ===

impl Causes {
    fn evaluate(root: &Path, quick: bool) -> anyhow::Result<Self> {
        let models = causes::evaluate(root)?;
        let engine = engine::evaluate(&causes::recordings(root)?, &models, quick)?;
        Ok(Self { models, engine })
    }

    fn text(&self) -> String {
        self.engine.iter().fold(self.models.text(), |text, section| text + &section.text())
    }
}
