//! What the controller remembers of one target.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracescale_core::capacity::{Observed, Unobserved};
use tracescale_core::decide::Proposal;
use tracescale_core::policy::RuleName;
use tracescale_core::rollout::Version;
use tracescale_core::target::TargetSpec;
use tracescale_core::time::Timestamp;

use super::usual::Usual;

/// First pause after a failed scale call; doubles with each further failure up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(5);
/// Longest pause between attempts at a target that keeps failing.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// A target and what is known of it.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) spec: Arc<TargetSpec>,
    pub(super) observed: Result<Observed, Unobserved>,
    pub(super) observe_due: Timestamp,
    pub(super) is_observing: bool,
    /// The newest answers of each version of each rule.
    pub(super) proposals: BTreeMap<(RuleName, Version), Vec<Proposal>>,
    pub(super) backoff: Option<Backoff>,
    /// Replicas that it would have if no other target stood in the way, while its decisions are carried out.
    pub(super) wish: Option<u32>,
    /// When it was last scaled down, and by which rule.
    pub(super) lowered: Option<(Timestamp, RuleName)>,
    pub(super) usual: Usual,
}

/// A target whose scale calls fail is left alone for a while.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    pub(super) until: Timestamp,
    pub(super) pause: Duration,
}

// === impl Target ===

impl Target {
    pub(super) fn new(spec: TargetSpec) -> Self {
        Self {
            spec: Arc::new(spec),
            observed: Err(Unobserved::not_yet()),
            observe_due: Timestamp::MIN,
            is_observing: false,
            proposals: BTreeMap::new(),
            backoff: None,
            wish: None,
            lowered: None,
            usual: Usual::default(),
        }
    }

    /// The clock stepped back.
    pub(super) fn step_back(&mut self, now: Timestamp) {
        self.observe_due = self.observe_due.min(now);
        self.backoff = self.backoff.map(|backoff| Backoff { until: backoff.until.min(now + backoff.pause), ..backoff });
    }

    /// Takes note of what a sink saw.
    pub(super) fn see(&mut self, now: Timestamp, observed: Observed) {
        self.usual.observe(now, observed.desired);
        self.observed = Ok(observed);
    }
}

// === impl Backoff ===

impl Backoff {
    pub(super) fn after(last: Option<Self>, now: Timestamp, retry_after: Option<Duration>) -> Self {
        let pause = last.map_or(BACKOFF_MIN, |last| (last.pause * 2).min(BACKOFF_MAX));
        Self { until: now + retry_after.unwrap_or(pause).max(pause), pause }
    }
}
