//! The recorded faults as a live system would have met them: spans and gauges as OTLP through the decoder, the views and
//! `service_cause`, on virtual time.
//!
//! ```text
//! calm minutes, then a run of faulty ones ─▶ OTLP, second by second ─▶ decode ─▶ engine ─▶ final windows of service_cause
//! ```
//!
//! A minute's windows are those that end in it or less than a slide later; those that lie less than half in the fault do not
//! count. They overlap, so twelve of them are less than twelve looks.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use arrow::array::RecordBatch;
use tracescale_core::time::Timestamp;
use tracescale_evaluate::causes::{self, Recording};
use tracescale_ingest::decode::{Declared, Encoding, decode};
use tracescale_queries::{Emission, Engine, needed};

use self::report::Case;
pub(super) use self::report::Section;
use self::traffic::Traffic;
use crate::cli::ListenArgs;
use crate::config::Config;
use crate::rows;
use crate::windows::step;

mod report;
#[cfg(test)]
mod tests;
mod traffic;

/// Calm minutes before a fault, of which the first six only teach.
const CALM_MINUTES: u32 = 10;
/// Calm time in which nothing is said yet: five minutes are learned as soon as they are final.
const TEACHING: Duration = Duration::from_secs(6 * 60);
/// A fault's first window has this much of it.
const HALF: Duration = Duration::from_secs(30);
/// Distance of windows.
const SLIDE: Duration = Duration::from_secs(5);
/// Until the last windows are final.
const SETTLE: Duration = Duration::from_secs(90);
/// The sender that all requests count as.
const SOURCE: &str = "recorded";
/// Keeps the views that are read, and those that they read.
const QUERY: &str = "SELECT * FROM service_cause";

/// What `service_cause` said of a window.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    /// Whom it named, and as what.
    culprit: Option<(String, String)>,
    /// Services of which more would help.
    helps: Vec<String>,
    /// Services of which more would not help, and on whose account.
    futile: BTreeMap<String, String>,
}

/// Sends every recorded system; with `quick` only the first run of faulty minutes of each.
///
/// # Errors
/// When a view or the engine fails.
pub(super) fn evaluate(recordings: &[Recording], recorded: &causes::Report, quick: bool) -> anyhow::Result<Vec<Section>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let runs = if quick { 1 } else { usize::MAX };
    let mut sections = Vec::new();
    for recording in recordings {
        for with_cpu in [false, true] {
            let mut section = runtime.block_on(section(recording, with_cpu, runs))?;
            section.compare(recorded);
            sections.push(section);
        }
    }
    Ok(sections)
}

/// The first `runs` runs of faulty minutes of a system.
async fn section(recording: &Recording, with_cpu: bool, runs: usize) -> anyhow::Result<Section> {
    let mut section = Section::new(recording.name, with_cpu);
    let front = traffic::front(recording);
    for run in recording.runs.iter().take(runs) {
        let traffic = Traffic::new(recording, run, CALM_MINUTES, with_cpu);
        let (begin, fault) = (traffic.begin(), traffic.fault());
        let said = listen(traffic).await?;
        section.calm.add(said.range(begin + TEACHING..=fault).map(|(_, said)| said), front);
        let (mut from, mut helped_after) = (fault + HALF, None);
        for minute in run {
            let end = Timestamp::from_nanos(minute.end) + SLIDE;
            let windows = said.range(from..end).map(|(end, said)| (end.since(fault), said));
            let case = Case::new(minute, windows, front);
            helped_after = helped_after.or(case.helps_after);
            section.cases.push(Case { helps_after: case.helps_after.filter(|after| helped_after == Some(*after)), ..case });
            from = end;
        }
    }
    Ok(section)
}

/// What the engine of production says of traffic, by the end of the window.
async fn listen(mut traffic: Traffic<'_>) -> anyhow::Result<BTreeMap<Timestamp, Said>> {
    let mut engine = engine().await?;
    let (mut said, mut last) = (BTreeMap::new(), None);
    while let Some((now, requests)) = traffic.next_second() {
        hear(&mut said, &step(&mut engine, last, now).await?);
        for (signal, body) in requests {
            let decoded = decode(signal, Encoding::Protobuf, &body, now, &Declared::default())?;
            anyhow::ensure!(decoded.rejected == 0, "{} of {} items: {}", decoded.rejected, decoded.items, decoded.rejected_reason);
            engine.push(SOURCE, decoded.batches, now).await?;
        }
        last = Some(now);
    }
    if let Some(end) = last {
        hear(&mut said, &step(&mut engine, last, end + SETTLE).await?);
    }
    let failures = &engine.stats().failures;
    anyhow::ensure!(failures.is_empty(), "views failed: {failures:?}");
    Ok(said)
}

/// The engine of a configuration without documents, with the views that `service_cause` needs.
async fn engine() -> anyhow::Result<Engine> {
    let config = Config::load(&[], &ListenArgs::default(), None).await;
    let config = config.map_err(|problems| anyhow!("{} problems of the configuration", problems.len()))?;
    let engine = config.engine_with(Duration::ZERO, &config.specs().0, |parts| needed(parts, &[QUERY])).await;
    Ok(engine.map_err(|problems| anyhow!("{} views do not work", problems.len()))?.0)
}

fn hear(said: &mut BTreeMap<Timestamp, Said>, emissions: &[Emission]) {
    for emission in emissions.iter().filter(|emission| emission.is_final && emission.view == "service_cause") {
        said.insert(emission.window_end, Said::read(&emission.rows));
    }
}

// === impl Said ===

impl Said {
    fn read(batch: &RecordBatch) -> Self {
        let mut said = Self::default();
        for row in 0..batch.num_rows() {
            let text = |column| batch.column_by_name(column).and_then(|column| rows::text(column, row)).map(str::to_owned);
            said.culprit = said.culprit.or_else(|| text("cause").zip(text("cause_kind")));
            match (text("service_name"), text("more_helps").as_deref()) {
                (Some(service), Some("yes")) => said.helps.push(service),
                (Some(service), Some("no")) => {
                    let _ = said.futile.insert(service, text("blocked_by").unwrap_or_default());
                }
                _ => {}
            }
        }
        said
    }
}
