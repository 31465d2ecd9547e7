//! Kubernetes Events about what we did, few enough that nobody has to clean up after us.
//!
//! A refusal that repeats is one Event with a series, written at most once a minute; a target gets at most so many new Events
//! in ten minutes. `kubectl describe` finds them by the object's uid.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tracescale_core::target::KubernetesRef;
use tracescale_core::time::Timestamp;

use crate::{ActionEvent, ActionKind};

/// Who reports, in every Event.
const CONTROLLER: &str = "tracescale.io/controller";
/// A repetition later than this starts a new Event.
const SERIES_END: Duration = Duration::from_secs(360);
/// A series is written at most this often, apart from its first repetition.
const SERIES_REFRESH: Duration = Duration::from_secs(60);
/// New Events per target in [`BUDGET_WINDOW`].
const BUDGET: usize = 20;
/// See [`BUDGET`].
const BUDGET_WINDOW: Duration = Duration::from_secs(600);
/// Series and budgets remembered.
const REMEMBERED: usize = 4096;
/// The longest part of a target's name in an Event's name.
const NAME: usize = 200;

/// What is to be sent for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// A new Event of this name.
    Create(String),
    /// A series on the Event of this name.
    Repeat { name: String, count: u32 },
    /// Nothing: said recently, or too much already.
    Quiet,
}

/// What was reported lately.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    series: HashMap<Key, Series>,
    created: HashMap<KubernetesRef, VecDeque<Timestamp>>,
    counter: u8,
}

type Key = (KubernetesRef, ActionKind, Option<String>);

#[derive(Debug)]
struct Series {
    name: String,
    count: u32,
    seen_at: Timestamp,
    written_at: Timestamp,
}

// === impl Recorder ===

impl Recorder {
    /// Decides what to send, and takes it as sent.
    pub(super) fn plan(&self, reference: &KubernetesRef, event: &ActionEvent) -> Plan {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = state.series.get_mut(&key(reference, event))
            && event.at.since(series.seen_at) < SERIES_END
        {
            series.count = series.count.saturating_add(1);
            series.seen_at = event.at;
            if series.count > 2 && event.at.since(series.written_at) < SERIES_REFRESH {
                return Plan::Quiet;
            }
            series.written_at = event.at;
            return Plan::Repeat { name: series.name.clone(), count: series.count };
        }
        state.create(reference, event)
    }

    /// A new Event although it is a repetition: the one it would repeat is gone.
    pub(super) fn plan_anew(&self, reference: &KubernetesRef, event: &ActionEvent) -> Plan {
        self.forget(reference, event);
        self.state.lock().unwrap_or_else(PoisonError::into_inner).create(reference, event)
    }

    /// Forgets what could not be sent.
    pub(super) fn forget(&self, reference: &KubernetesRef, event: &ActionEvent) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).series.remove(&key(reference, event));
    }
}

// === impl State ===

impl State {
    fn create(&mut self, reference: &KubernetesRef, event: &ActionEvent) -> Plan {
        self.make_room(event.at);
        let created = self.created.entry(reference.clone()).or_default();
        created.retain(|at| event.at.since(*at) < BUDGET_WINDOW);
        if created.len() >= BUDGET {
            return Plan::Quiet;
        }
        created.push_back(event.at);
        self.counter = self.counter.wrapping_add(1);
        let stem: String = reference.name.chars().take(NAME).collect();
        let name = format!("{stem}.{:x}{:02x}", event.at.as_nanos(), self.counter);
        let series = Series { name: name.clone(), count: 1, seen_at: event.at, written_at: event.at };
        self.series.insert(key(reference, event), series);
        Plan::Create(name)
    }

    fn make_room(&mut self, now: Timestamp) {
        if self.series.len() >= REMEMBERED {
            self.series.retain(|_, series| now.since(series.seen_at) < SERIES_END);
            if self.series.len() >= REMEMBERED {
                self.series.clear();
            }
        }
        if self.created.len() >= REMEMBERED {
            self.created.retain(|_, times| times.back().is_some_and(|at| now.since(*at) < BUDGET_WINDOW));
            if self.created.len() >= REMEMBERED {
                self.created.clear();
            }
        }
    }
}

/// Actions differ by what they say; a refusal is the same whatever it says of the time left.
fn key(reference: &KubernetesRef, event: &ActionEvent) -> Key {
    (reference.clone(), event.kind, (!event.kind.is_warning()).then(|| event.note.clone()))
}

/// The body of a new Event.
pub(super) fn body(reference: &KubernetesRef, uid: &str, name: &str, instance: &str, event: &ActionEvent) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": reference.namespace},
        "eventTime": micros(event.at),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
        "action": "Scale",
        "reason": event.kind.reason(),
        "regarding": {
            "apiVersion": reference.api_version,
            "kind": reference.kind,
            "name": reference.name,
            "namespace": reference.namespace,
            "uid": uid,
        },
        "note": event.note,
        "type": if event.kind.is_warning() { "Warning" } else { "Normal" },
    })
}

/// The body that makes an Event a series.
pub(super) fn series_body(count: u32, at: Timestamp) -> Value {
    json!({"series": {"count": count, "lastObservedTime": micros(at)}})
}

/// Six digits of microseconds, which the API insists on.
fn micros(at: Timestamp) -> String {
    at.to_utc().format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cart() -> KubernetesRef {
        KubernetesRef {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "cart".into(),
            context: None,
            container: None,
        }
    }

    /// Guarantees: a refusal repeated every five seconds for an hour is one Event, refreshed at most once a minute.
    #[test]
    fn a_repeated_refusal_is_one_event() {
        let recorder = Recorder::default();
        let (mut created, mut repeated, mut last) = (0, 0, 0);
        for second in (0..3600).step_by(5) {
            let event = ActionEvent::new(ActionKind::Contested, format!("held for {} s", 3600 - second), Timestamp::from_secs(second));
            match recorder.plan(&cart(), &event) {
                Plan::Create(_) => created += 1,
                Plan::Repeat { count, .. } => {
                    repeated += 1;
                    last = count;
                }
                Plan::Quiet => {}
            }
        }
        assert_eq!(created, 1);
        assert!((50..=61).contains(&repeated), "{repeated}");
        assert!(last > 700, "{last}");
    }

    /// Guarantees: however restless a target is, it gets a bounded number of Events.
    #[test]
    fn a_target_has_a_budget() {
        let recorder = Recorder::default();
        let plans = (0..600).map(|second| {
            let event = ActionEvent::new(ActionKind::ScaledUp, format!("replicas to {second}"), Timestamp::from_secs(second));
            recorder.plan(&cart(), &event)
        });
        assert_eq!(plans.filter(|plan| *plan != Plan::Quiet).count(), BUDGET);
    }

    /// Guarantees: two Events of one instant have two names, and times carry microseconds.
    #[test]
    fn names_differ_and_times_are_precise() {
        let recorder = Recorder::default();
        let plan = |note: &str| recorder.plan(&cart(), &ActionEvent::new(ActionKind::ScaledUp, note, Timestamp::EPOCH));
        assert_ne!(plan("one"), plan("two"));
        assert_eq!(micros(Timestamp::from_millis(1500)), "1970-01-01T00:00:01.500000Z");
    }
}
