//! Who is alive: which source last sent telemetry of which service, and when no source sent anything at all, or nobody listened.
//!
//! This is what tells an idle service (its source still speaks) from a missing one (its source is silent). Any signal of a
//! service counts as a sign of life, so metrics keep a service without requests from looking dead.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::time::{Timestamp, nanos};

const MAX_GAPS: usize = 64;

/// Signs of life by source and service.
#[derive(Debug)]
pub(crate) struct Life {
    timeout: Duration,
    capacity: usize,
    sources: HashMap<Arc<str>, Timestamp>,
    services: HashMap<Arc<str>, Sign>,
    started: Option<Timestamp>,
    last: Timestamp,
    /// Since when requests are taken.
    listening: Timestamp,
    /// When nobody spoke, or nobody listened.
    gaps: VecDeque<(Timestamp, Timestamp)>,
}

#[derive(Debug)]
struct Sign {
    source: Arc<str>,
    at: Timestamp,
}

// === impl Life ===

impl Life {
    pub(crate) fn new(timeout: Duration, capacity: usize) -> Self {
        let (sources, services, gaps) = (HashMap::new(), HashMap::new(), VecDeque::new());
        Self { timeout, capacity, sources, services, started: None, last: Timestamp::MIN, listening: Timestamp::MIN, gaps }
    }

    /// Telemetry came from `source`; rows reach back to `oldest`.
    pub(crate) fn source(&mut self, source: &str, at: Timestamp, oldest: Timestamp) -> Arc<str> {
        if self.started.is_none() {
            self.started = Some(oldest.min(at));
        } else {
            let since = self.last.max(self.listening);
            if at.since(since) > self.timeout {
                self.gap(since, at);
            }
        }
        self.last = self.last.max(at);
        if let Some((known, seen)) = self.sources.get_key_value(source) {
            let (known, seen) = (Arc::clone(known), (*seen).max(at));
            self.sources.insert(Arc::clone(&known), seen);
            return known;
        }
        let source: Arc<str> = Arc::from(source);
        if self.sources.len() < self.capacity {
            self.sources.insert(Arc::clone(&source), at);
        }
        source
    }

    /// Requests are taken from then on. What was sent since the last one may be lost, whoever still speaks of that time.
    pub(crate) fn listen(&mut self, from: Timestamp) {
        if self.started.is_some() && from > self.last {
            self.gap(self.last, from);
            self.listening = from;
        }
    }

    fn gap(&mut self, start: Timestamp, end: Timestamp) {
        if self.gaps.len() == MAX_GAPS {
            self.gaps.pop_front();
        }
        self.gaps.push_back((start, end));
    }

    /// Telemetry of `service` came from `source`.
    pub(crate) fn service(&mut self, service: &str, source: &Arc<str>, at: Timestamp) {
        if let Some(sign) = self.services.get_mut(service) {
            if !Arc::ptr_eq(&sign.source, source) {
                sign.source = Arc::clone(source);
            }
            sign.at = sign.at.max(at);
        } else if self.services.len() < self.capacity {
            self.services.insert(Arc::from(service), Sign { source: Arc::clone(source), at });
        }
    }

    /// The last sign of life of a service or of the source that last spoke for it. An unknown service (a database that only
    /// its callers report) lives as long as anybody speaks.
    pub(crate) fn last_sign(&self, service: &str) -> Timestamp {
        self.services.get(service).map_or(self.last, |sign| sign.at.max(self.sources.get(&sign.source).copied().unwrap_or(Timestamp::MIN)))
    }

    /// The last sign of life of any source.
    pub(crate) fn last(&self) -> Timestamp {
        self.last
    }

    /// The last sign of life of anything that could have reported on a group: a group of several services (a call) is
    /// missing only when all of them are.
    pub(crate) fn last_sign_of(&self, services: &[Arc<str>]) -> Timestamp {
        services.iter().map(|service| self.last_sign(service)).max().unwrap_or(self.last)
    }

    /// Whether a silence that began at `last_sign` is one of the source, as seen at `at`.
    pub(crate) fn is_missing(&self, last_sign: Timestamp, at: Timestamp) -> bool {
        at.since(last_sign) > self.timeout
    }

    /// The share of `[start, end)` that has passed `watermark` and in which some source was alive, up to `cut` at most.
    pub(crate) fn completeness(&self, start: Timestamp, end: Timestamp, watermark: Timestamp, cut: Timestamp) -> f64 {
        let Some(started) = self.started else { return 0.0 };
        let (from, to) = (start.max(started), end.min(watermark).min(cut));
        let mut covered = nanos(to.since(from));
        for (gap_start, gap_end) in &self.gaps {
            covered -= nanos(to.min(*gap_end).since(from.max(*gap_start)));
        }
        let size = nanos(end.since(start));
        if size == 0 { 0.0 } else { ratio(covered.max(0), size) }
    }

    /// Forgets sources and services that were silent since before `horizon`.
    pub(crate) fn forget(&mut self, horizon: Timestamp) {
        self.services.retain(|_, sign| sign.at >= horizon);
        self.sources.retain(|_, seen| *seen >= horizon);
        self.gaps.retain(|(_, end)| *end >= horizon);
    }

    /// The wall clock stepped back: signs from the wrong future count as seen now.
    pub(crate) fn step_back(&mut self, now: Timestamp) {
        self.last = self.last.min(now);
        self.listening = self.listening.min(now);
        self.started = self.started.map(|started| started.min(now));
        self.sources.values_mut().for_each(|seen| *seen = (*seen).min(now));
        self.services.values_mut().for_each(|sign| sign.at = sign.at.min(now));
        self.gaps.retain(|(_, end)| *end <= now);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share of a window needs no more than 53 bits")]
fn ratio(part: i64, whole: i64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_767_600_000 + second)
    }

    /// Guarantees: what was not listened to is not complete, though somebody speaks right after; a silence that follows counts once.
    #[test]
    fn what_nobody_heard_is_not_complete() {
        let heard = |listens: Option<i64>, then: &[i64]| {
            let mut life = Life::new(Duration::from_secs(60), 10);
            for second in [0, 15, 30] {
                let _ = life.source("sender", at(second), at(second));
            }
            if let Some(second) = listens {
                life.listen(at(second));
            }
            for second in then {
                let _ = life.source("sender", at(*second), at(*second));
            }
            format!("{:.2}", life.completeness(at(0), at(200), at(1000), at(1000)))
        };
        assert_eq!([heard(None, &[62]), heard(Some(60), &[62]), heard(Some(20), &[62])], ["1.00", "0.85", "1.00"]);
        assert_eq!([heard(Some(60), &[130]), heard(None, &[130])], ["0.50", "0.50"]);
        let mut nobody = Life::new(Duration::from_secs(60), 10);
        nobody.listen(at(0));
        assert!(nobody.gaps.is_empty());
    }
}
