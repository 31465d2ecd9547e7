//! What is seen of a changed rule while it is on trial.

use std::collections::BTreeMap;
use std::time::Duration;

use tracescale_core::proportion::Count;
use tracescale_core::rollout::Seen;
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;

use super::diagnosis::{Diagnoses, Over};

/// Evaluations in a row that fail before a version counts as one that cannot be evaluated: a machine may be busy for a moment.
const FAILURES: u32 = 3;
/// A minute of requests.
const MINUTE: Duration = Duration::from_secs(60);
/// The longest time before the trial that the requests since are compared with.
const BEFORE_MAX: Duration = Duration::from_secs(2 * 3600);

/// Counts since the stage began. A restart begins them anew; the stage itself goes on.
#[derive(Debug, Default)]
pub(super) struct Watch {
    canary: Count,
    control: Count,
    /// Slow requests of the canaries in the minutes before, by the end of the minute.
    before: BTreeMap<Timestamp, Count>,
    rolled_back: Option<TargetName>,
    failures: u32,
    error: Option<String>,
}

// === impl Watch ===

impl Watch {
    /// The watch over canaries, with what was known of them before.
    pub(super) fn of(since: Timestamp, canaries: &[TargetName], diagnoses: &Diagnoses) -> Self {
        let mut watch = Self::default();
        for canary in canaries {
            for (end, count) in diagnoses.history(canary, since - BEFORE_MAX, since) {
                add(watch.before.entry(end).or_default(), count);
            }
        }
        watch
    }

    /// Counts a whole minute since the stage began.
    pub(super) fn count(&mut self, since: Timestamp, minute: &Over, is_canary: bool) {
        if minute.end >= since + MINUTE {
            add(if is_canary { &mut self.canary } else { &mut self.control }, minute.slow);
        }
    }

    pub(super) fn rolled_back(&mut self, target: &TargetName) {
        self.rolled_back = Some(target.clone());
    }

    pub(super) fn evaluated(&mut self, failure: Option<String>) {
        self.failures = if failure.is_some() { self.failures.saturating_add(1) } else { 0 };
        self.error = failure;
    }

    /// Everything that was seen; what was before a stage that began at `since` counts for as long as the stage lasts.
    pub(super) fn seen(&self, now: Timestamp, since: Option<Timestamp>) -> Seen {
        let known = |count: Count| (count.all > 0).then_some(count);
        let before = since.map(|since| {
            let mut sum = Count::default();
            self.before.range(since - now.since(since)..).for_each(|(_, count)| add(&mut sum, *count));
            sum
        });
        Seen {
            canary: known(self.canary),
            control: known(self.control),
            before: before.and_then(known),
            rolled_back: self.rolled_back.clone(),
            failed: self.error.clone().filter(|_| self.failures >= FAILURES),
        }
    }
}

fn add(sum: &mut Count, more: Count) {
    sum.bad = sum.bad.saturating_add(more.bad);
    sum.all = sum.all.saturating_add(more.all);
}
