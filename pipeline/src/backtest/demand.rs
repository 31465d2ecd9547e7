//! What there was to do: the load and the work of each service, as it was recorded. Neither depends on how many replicas
//! there were, which is what makes a backtest possible.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampNanosecondType};
use tracescale_core::time::{Timestamp, nanos};
use tracescale_queries::Past;
use tracescale_simulate::distribution::Distribution;
use tracescale_simulate::series::{Interpolation, Series};

use crate::rows;

/// What was demanded of each service.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// When it begins.
    pub from: Timestamp,
    /// When it ends.
    pub until: Timestamp,
    /// The services, by name.
    pub services: Vec<ServiceDemand>,
    /// What had to be assumed.
    pub assumptions: Vec<String>,
}

/// What was demanded of a service.
#[derive(Clone, Debug)]
pub(crate) struct ServiceDemand {
    /// `service.name`.
    pub name: String,
    /// `service.namespace`.
    pub namespace: Option<String>,
    /// Requests per second that came.
    pub rate: Series,
    /// Work of a request, in seconds of one server.
    pub work: Distribution,
    /// Replicas that there were, each from its time on; empty when nobody knows.
    pub recorded: Vec<(Timestamp, u32)>,
}

/// Work of requests where a load series says nothing of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Work {
    /// Mean, in seconds.
    pub mean: f64,
    /// Squared coefficient of variation.
    pub scv: f64,
}

/// Values of one service at one time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    rate: f64,
    /// Mean, median and 95th percentile of self time.
    times: Option<[f64; 3]>,
    instances: Option<u32>,
}

type Key = (String, Option<String>);

/// One value per minute is what demand is made of.
const MINUTE: Duration = Duration::from_secs(60);
/// The 95th percentile of a normal variable.
const NORMAL_95: f64 = 1.644_853_626_951_472_2;

/// Newest revision of each minute's window.
const SQL: &str = "
    SELECT window_end, service_name, service_namespace, arrival_rate, instances, self_mean, self_p50, self_p95
    FROM (SELECT l.window_end, l.service_name, l.service_namespace, l.arrival_rate, CAST(l.instances AS DOUBLE) AS instances,
                 s.mean AS self_mean, s.p50 AS self_p50, s.p95 AS self_p95,
                 row_number() OVER (PARTITION BY l.window_end, l.service_name, l.service_namespace
                                    ORDER BY l.revision DESC, s.revision DESC) AS place
          FROM service_load l
          LEFT JOIN service_self_time s ON s.window_end = l.window_end AND s.service_name = l.service_name
                                       AND s.service_namespace IS NOT DISTINCT FROM l.service_namespace
          WHERE l.window_end = date_trunc('minute', l.window_end) AND l.presence <> 'missing')
    WHERE place = 1
    ORDER BY window_end";

// === impl Workload ===

impl Workload {
    /// The demand in final windows that were recorded; `sql` is the command that asks the same source.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub(crate) async fn recorded(past: &Past, range: (Option<Timestamp>, Option<Timestamp>), sql: &str) -> anyhow::Result<Self> {
        for view in ["service_load", "service_self_time"] {
            ensure!(
                past.tables().contains_key(view),
                "no windows of {view} are recorded; hint: they come from spans; `tracescale run` archives them, --capture reads a capture, --load a series"
            );
        }
        let batches = past.prepare(SQL).await?.collect().await.context("the recorded windows")?;
        let mut samples: BTreeMap<Key, BTreeMap<Timestamp, Sample>> = BTreeMap::new();
        for batch in &batches {
            read(batch, range, &mut samples)?;
        }
        let asked = if range == (None, None) { "" } else { " in that time" };
        let times = || samples.values().flat_map(BTreeMap::keys);
        let (Some(first), Some(last)) = (times().min(), times().max()) else {
            bail!(
                "no windows of whole minutes are recorded{asked}; hint: `{sql} \"SELECT min(window_end), max(window_end) FROM service_load\"`"
            )
        };
        Self::of(&samples, *first - MINUTE, *last)
    }

    /// A load from a file: `time,rate` or `time,service,rate`, where time is RFC 3339 or seconds since 1970.
    ///
    /// # Errors
    /// Names the line and value that cannot be read.
    pub(crate) fn from_csv(path: &Path, work: Work) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("load {}", path.display()))?;
        let loads = parse_csv(&text).with_context(|| format!("load {}", path.display()))?;
        let mut services = Vec::new();
        let (mut from, mut until) = (Timestamp::MAX, Timestamp::MIN);
        let mut gaps = 0;
        for (name, points) in loads {
            let (first, interval, values) = regular(&points).with_context(|| format!("load {}, service {name}", path.display()))?;
            gaps += values.len() - points.len();
            (from, until) = (from.min(first), until.max(first + interval * u32::try_from(values.len())?));
            let rate = Series { start: first, interval, values, scale: 1.0, interpolation: Interpolation::Step };
            let work = Distribution::Lognormal { mean: work.mean, scv: work.scv };
            services.push(ServiceDemand { name, namespace: None, rate, work, recorded: Vec::new() });
        }
        ensure!(!services.is_empty(), "load {} has no rows; hint: a header `time,rate`, then a row per interval", path.display());
        let mut assumptions = vec![format!(
            "The load is that of {}; each request takes {} of work on average (squared coefficient of variation {}), which nobody measured.",
            path.display(),
            tracescale_core::duration::format(Duration::from_secs_f64(work.mean)),
            work.scv
        )];
        if gaps > 0 {
            assumptions.push(format!("{gaps} intervals have no row; there the load is taken to be as in the last one that has."));
        }
        Ok(Self { from, until, services, assumptions })
    }

    fn of(samples: &BTreeMap<Key, BTreeMap<Timestamp, Sample>>, from: Timestamp, until: Timestamp) -> anyhow::Result<Self> {
        let minutes = usize::try_from(nanos(until.since(from)) / nanos(MINUTE))?;
        let mut assumptions = vec![
            "Requests come as they were recorded, minute by minute, whatever a policy does: callers neither wait longer nor give up."
                .to_owned(),
            "Work is the self time of the calmer half of the minutes, so that waiting is not taken for work; its shape is log-normal."
                .to_owned(),
        ];
        let (mut services, mut without, mut gaps) = (Vec::new(), Vec::new(), 0);
        for ((name, namespace), samples) in samples {
            let Some(work) = work(samples) else {
                without.push(name.clone());
                continue;
            };
            let (values, missing) = filled(samples, from, minutes);
            gaps += missing;
            let rate = Series { start: from, interval: MINUTE, values, scale: 1.0, interpolation: Interpolation::Step };
            let recorded = samples.iter().filter_map(|(end, sample)| Some((*end - MINUTE, sample.instances?)));
            services.push(ServiceDemand { name: name.clone(), namespace: namespace.clone(), rate, work, recorded: changes(recorded) });
        }
        if !without.is_empty() {
            assumptions.push(format!("Without any measured work, and therefore left out: {}.", without.join(", ")));
        }
        if gaps > 0 {
            assumptions.push(format!("{gaps} service minutes without telemetry: the load of the minute before is taken."));
        }
        ensure!(!services.is_empty(), "no service has both load and work in that time");
        Ok(Self { from, until, services, assumptions })
    }
}

fn read(
    batch: &RecordBatch,
    (from, to): (Option<Timestamp>, Option<Timestamp>),
    samples: &mut BTreeMap<Key, BTreeMap<Timestamp, Sample>>,
) -> anyhow::Result<()> {
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name}"));
    let ends = column("window_end")?.as_primitive::<TimestampNanosecondType>();
    let number = |name: &str, row: usize| -> anyhow::Result<Option<f64>> {
        let values = column(name)?.as_primitive_opt::<Float64Type>().with_context(|| format!("{name} is no number"))?;
        Ok(values.is_valid(row).then(|| values.value(row)).filter(|value| value.is_finite()))
    };
    for row in 0..batch.num_rows() {
        let end = Timestamp::from_nanos(ends.value(row));
        let is_wanted = from.is_none_or(|from| end - MINUTE >= from) && to.is_none_or(|to| end <= to);
        let (true, Some(service)) = (is_wanted, rows::text(column("service_name")?, row)) else { continue };
        let namespace = rows::text(column("service_namespace")?, row).filter(|text| !text.is_empty());
        let times = [number("self_mean", row)?, number("self_p50", row)?, number("self_p95", row)?];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of instances")]
        let instances = number("instances", row)?.filter(|count| *count >= 1.0).map(|count| count as u32);
        let times = if let [Some(mean), Some(p50), Some(p95)] = times { Some([mean, p50, p95]) } else { None };
        let sample = Sample { rate: number("arrival_rate", row)?.unwrap_or(0.0).max(0.0), times, instances };
        let key = (service.to_owned(), namespace.map(str::to_owned));
        let _ = samples.entry(key).or_default().insert(end, sample);
    }
    Ok(())
}

/// The work of the calmer half of the minutes. The spread is that of a log-normal with the measured median and 95th percentile.
fn work(samples: &BTreeMap<Timestamp, Sample>) -> Option<Distribution> {
    let mut calm: Vec<(f64, [f64; 3])> = samples.values().filter_map(|sample| Some((sample.rate, sample.times?))).collect();
    calm.retain(|(rate, times)| *rate > 0.0 && times[0] > 0.0);
    calm.sort_by(|(_, left), (_, right)| left[0].total_cmp(&right[0]));
    calm.truncate(calm.len().div_ceil(2));
    let weight: f64 = calm.iter().map(|(rate, _)| rate).sum();
    if weight <= 0.0 {
        return None;
    }
    let [mean, p50, p95] = [0, 1, 2].map(|place| calm.iter().map(|(rate, times)| rate * times[place]).sum::<f64>() / weight);
    let deviation = if p50 > 0.0 && p95 > p50 { (p95 / p50).ln() / NORMAL_95 } else { 0.0 };
    let scv = deviation.powi(2).exp_m1().clamp(0.01, 25.0);
    Some(Distribution::Lognormal { mean, scv })
}

/// A value for every minute; where there is none, that of the minute before. Returns how many those are.
fn filled(samples: &BTreeMap<Timestamp, Sample>, from: Timestamp, minutes: usize) -> (Vec<f64>, usize) {
    let (mut values, mut missing) = (Vec::with_capacity(minutes), 0);
    let mut end = from;
    for _ in 0..minutes {
        end = end + MINUTE;
        match samples.get(&end) {
            Some(sample) => values.push(sample.rate),
            None => {
                missing += 1;
                values.push(values.last().copied().unwrap_or(0.0));
            }
        }
    }
    (values, missing)
}

fn changes(recorded: impl Iterator<Item = (Timestamp, u32)>) -> Vec<(Timestamp, u32)> {
    let mut changes: Vec<(Timestamp, u32)> = Vec::new();
    for (at, replicas) in recorded {
        if changes.last().is_none_or(|(_, last)| *last != replicas) {
            changes.push((at, replicas));
        }
    }
    changes
}

/// The points of each service.
fn parse_csv(text: &str) -> anyhow::Result<BTreeMap<String, BTreeMap<Timestamp, f64>>> {
    // Spreadsheets begin with a byte order mark.
    let mut lines =
        text.trim_start_matches('\u{feff}').lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    let (_, header) = lines.next().context("the file is empty")?;
    let columns: Vec<&str> = header.split(',').map(str::trim).collect();
    let place = |name: &str| columns.iter().position(|column| column.eq_ignore_ascii_case(name));
    let (Some(time), Some(rate)) = (place("time"), place("rate")) else {
        bail!(
            "line 1: the header is `{header}`; hint: it needs the columns `time` and `rate` (requests per second), and may have `service`"
        )
    };
    let service = place("service");
    let mut loads: BTreeMap<String, BTreeMap<Timestamp, f64>> = BTreeMap::new();
    for (number, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let cell = |place: usize| cells.get(place).copied().unwrap_or_default();
        let at = instant(cell(time)).with_context(|| format!("line {}: time `{}`", number + 1, cell(time)))?;
        let value: f64 = cell(rate)
            .parse()
            .ok()
            .filter(|value: &f64| *value >= 0.0 && value.is_finite())
            .with_context(|| format!("line {}: rate `{}` is not a number of requests per second", number + 1, cell(rate)))?;
        let name = service.map_or("service", cell);
        if loads.entry(name.to_owned()).or_default().insert(at, value).is_some() {
            bail!("line {}: a second row of service {name} at {at}", number + 1);
        }
    }
    Ok(loads)
}

fn instant(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
        && seconds.abs() < 9e9
    {
        return Ok(Timestamp::EPOCH + Duration::try_from_secs_f64(seconds)?);
    }
    super::time(text).map_err(anyhow::Error::msg)
}

/// Values at equal distances; missing ones are those before them.
fn regular(points: &BTreeMap<Timestamp, f64>) -> anyhow::Result<(Timestamp, Duration, Vec<f64>)> {
    let times: Vec<Timestamp> = points.keys().copied().collect();
    let first = *times.first().context("no rows")?;
    let interval = times.windows(2).map(|pair| pair[1].since(pair[0])).min().unwrap_or(MINUTE);
    let mut values = Vec::new();
    for (at, value) in points {
        let offset = nanos(at.since(first));
        ensure!(
            offset % nanos(interval) == 0,
            "{at} is not a whole number of intervals of {} after {first}",
            tracescale_core::duration::format(interval)
        );
        let place = usize::try_from(offset / nanos(interval))?;
        ensure!(place < 10_000_000, "more than ten million intervals");
        let last = values.last().copied().unwrap_or(*value);
        values.resize(place, last);
        values.push(*value);
    }
    Ok((first, interval, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a load file is read with or without services, gaps are filled, which is said, and what is wrong is named with its line.
    #[test]
    fn load_files_are_read() {
        let loads = parse_csv("time,service,rate\n0,cart,1.5\n60,cart,2\n2026-01-01T00:00:00Z,pay,3\n").unwrap();
        assert_eq!(loads["cart"].values().copied().collect::<Vec<_>>(), [1.5, 2.0]);
        assert_eq!(loads["pay"].len(), 1);
        let gap = parse_csv("time,rate\n0,1\n10,2\n40,3\n").unwrap();
        let (first, interval, values) = regular(&gap["service"]).unwrap();
        assert_eq!((first, interval, values), (Timestamp::EPOCH, Duration::from_secs(10), vec![1.0, 2.0, 2.0, 2.0, 3.0]));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gap.csv");
        std::fs::write(&path, "time,rate\n0,1\n10,2\n40,3\n").unwrap();
        let told = Workload::from_csv(&path, Work { mean: 0.1, scv: 1.0 }).unwrap().assumptions;
        assert!(told.iter().any(|line| line.starts_with("2 intervals have no row")), "{told:?}");
        for (text, wanted) in [
            ("when,rate\n", "line 1"),
            ("time,rate\n0,many\n", "line 2: rate `many`"),
            ("time,rate\nsoon,1\n", "line 2: time `soon`"),
            ("time,rate\n0,1\n0,2\n", "line 3: a second row"),
            ("time,rate\n0,-1\n", "rate `-1`"),
        ] {
            let error = format!("{:#}", parse_csv(text).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        }
    }

    /// Guarantees: work comes from the calm minutes, with the spread of the measured quantiles.
    #[test]
    fn work_is_that_of_calm_minutes() {
        let sample = |mean: f64| Sample { rate: 10.0, times: Some([mean, mean * 0.8, mean * 2.0]), instances: None };
        let samples = (0..10).map(|minute| (Timestamp::from_secs(60 * minute), sample(if minute < 5 { 0.1 } else { 5.0 }))).collect();
        let Some(Distribution::Lognormal { mean, scv }) = work(&samples) else { panic!("no work") };
        assert!((mean - 0.1).abs() < 1e-9);
        let deviation = (2.0_f64 / 0.8).ln() / NORMAL_95;
        assert!((scv - (deviation * deviation).exp_m1()).abs() < 1e-9);
    }
}
