//! `service_cause`: which service is responsible for slow requests, and whether more replicas of a service would help.

use std::collections::{BTreeMap, VecDeque};

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use tracescale_core::time::Timestamp;
use tracescale_models::cause::{Baseline, Edge, Help, Service, Verdict, Window, judge};

use super::memory::{AHEAD, APART};
use super::rows::{Layout, ServiceKey, ends, services};
use super::utilization::{ByService, throttled, utilizations};
use crate::model::{Column, Model, Seen};
use crate::window::WINDOW_START;

/// Windows of the baseline: an hour.
const WINDOWS: usize = 60;
/// Windows, and so minutes, before anything is said: what is normal must be known first.
const WINDOWS_MIN: usize = 5;

const LAYOUT: Layout = Layout {
    numbers: &["cause_share", "cause_score", "cause_added", "queue_share", "utilization"],
    texts: &["cause", "cause_kind", "more_helps", "blocked_by"],
    bytes: &[],
};

/// What is normal of every service and call, and what differs.
#[derive(Debug, Default)]
pub(super) struct Causes {
    /// Ends of the windows behind the baseline.
    learned: VecDeque<Timestamp>,
    baseline: Baseline,
}

// === impl Causes ===

impl Causes {
    fn learn(&mut self, end: Timestamp, window: &Window) {
        // After the clock stepped back, windows of the future would keep everything from being learned.
        self.learned.retain(|known| known.since(end) < AHEAD);
        if self.learned.back().is_some_and(|last| end.since(*last) < APART) {
            return;
        }
        if self.learned.len() >= WINDOWS {
            let _ = self.learned.pop_front();
        }
        self.learned.push_back(end);
        let oldest = self.learned.front().copied().unwrap_or(end);
        // What is judged next must not be judged by itself.
        self.baseline.follow(end.as_nanos(), window, |at| (oldest.as_nanos()..=end.as_nanos()).contains(&at));
    }

    fn verdict(&self, window: &Window) -> Verdict {
        if self.learned.len() < WINDOWS_MIN { Verdict::default() } else { judge(window, &self.baseline) }
    }
}

impl Model for Causes {
    fn name(&self) -> &'static str {
        "service_cause"
    }

    fn reads(&self) -> &'static [&'static str] {
        &["service_summary", "calls", "metric_gauges", "metric_rates", "service_queue"]
    }

    fn keys(&self) -> &'static [&'static str] {
        &["service_name", "service_namespace"]
    }

    fn schema(&self) -> Schema {
        LAYOUT.schema()
    }

    fn judge(&mut self, seen: &Seen<'_>) -> Result<RecordBatch, ArrowError> {
        let summary = seen.driver;
        let window = observed(seen, summary);
        let verdict = self.verdict(&window);
        let mut rows = LAYOUT.rows();
        let culprit = verdict.culprit();
        let utilizations: BTreeMap<&str, f64> =
            window.services.iter().filter_map(|service| Some((&*service.name, service.utilization?))).collect();
        for (_, key) in services(summary) {
            let name = key.full_name();
            let (helps, blocked_by) = match verdict.would_help(&name) {
                Help::Yes => ("yes", None),
                Help::No { blocked_by } => ("no", Some(blocked_by)),
                Help::Unknown => ("unknown", None),
            };
            let of = |get: fn(&tracescale_models::cause::Cause) -> f64| culprit.map(get);
            rows.add(
                &key,
                [
                    of(|cause| cause.share),
                    of(|cause| cause.score),
                    of(|cause| cause.added),
                    of(|cause| cause.queue_share),
                    utilizations.get(&*name).copied(),
                ],
                [culprit.map(|cause| cause.service.as_str()), culprit.map(|cause| cause.kind.as_str()), Some(helps), blocked_by.as_deref()],
            );
        }
        if seen.is_final {
            self.learn(seen.end, &window);
        }
        rows.finish(seen)
    }

    fn remember(&mut self, _: &str, _: &RecordBatch) {
        // The baseline is an hour at most, and incomplete without the calls: it is soon learned anew.
    }
}

/// The figures of a window.
fn observed(seen: &Seen<'_>, summary: &RecordBatch) -> Window {
    let column = |name| Column::of(summary, name);
    let [completions, samples, sojourn, self_time, errors, presence] =
        ["completion_rate", "n_eff", "mean_sojourn", "self_time", "error_ratio", "presence"].map(column);
    let seconds = length(seen, summary);
    let busy = ByService::new(seen.rows("metric_gauges").map(utilizations).unwrap_or_default(), summary);
    let held_back = ByService::new(seen.rows("metric_rates").map(throttled).unwrap_or_default(), summary);
    let safe = seen.rows("service_queue").map(safe_utilizations).unwrap_or_default();
    let service = |(row, key): (usize, ServiceKey)| {
        // The verdict wants numbers of requests: few show nothing.
        let requests = completions.number(row)? * seconds;
        let utilization = busy.get(&key);
        (presence.text(row) != Some("missing")).then(|| Service {
            name: key.full_name(),
            requests,
            samples: samples.number(row),
            sojourn: sojourn.number(row),
            self_time: self_time.number(row),
            utilization: utilization.map(|of| of.mean),
            peak_utilization: utilization.map(|of| of.peak),
            safe_utilization: safe.get(&key).copied(),
            throttled: held_back.get(&key),
            error_share: errors.number(row),
        })
    };
    Window {
        services: services(summary).filter_map(service).collect(),
        edges: seen.rows("calls").map(|calls| edges(calls, seconds)).unwrap_or_default(),
    }
}

/// How busy services may be that promised something.
fn safe_utilizations(queue: &RecordBatch) -> BTreeMap<ServiceKey, f64> {
    let safe = Column::of(queue, "safe_utilization");
    services(queue).filter_map(|(row, key)| Some((key, safe.number(row)?))).collect()
}

/// Length of a window, in seconds.
fn length(seen: &Seen<'_>, rows: &RecordBatch) -> f64 {
    Column::of(rows, WINDOW_START).time(0).map_or(0.0, |start| seen.end.since(start).as_secs_f64())
}

fn edges(calls: &RecordBatch, seconds: f64) -> Vec<Edge> {
    let column = |name| Column::of(calls, name);
    let [rate, samples, client_mean, server_mean, wait, floor] =
        ["call_rate", "n_eff", "client_mean", "server_mean", "wait_mean", "wait_p05"].map(column);
    let edge = |(row, client, server)| {
        Some(Edge {
            client,
            server,
            calls: rate.number(row)? * seconds,
            samples: samples.number(row),
            client_duration: client_mean.number(row),
            server_duration: server_mean.number(row),
            wait: wait.number(row),
            wait_floor: floor.number(row),
        })
    };
    ends(calls).filter(|(_, _, server)| !server.is_empty()).filter_map(edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: a minute is learned once, late changes of older windows are not, and a clock that steps back does not end
    /// learning.
    #[test]
    fn a_clock_that_steps_back_does_not_end_learning() {
        let mut causes = Causes::default();
        let mut learn = |seconds: i64| {
            causes.learn(Timestamp::from_secs(1_767_600_000 + seconds), &Window::default());
            causes.learned.len()
        };
        assert_eq!([7200, 7205, 7260, 7320, 7215].map(&mut learn), [1, 1, 2, 3, 3]);
        assert_eq!([3600, 3630, 3660].map(&mut learn), [1, 1, 2]);
    }
}
