//! The part of a policy that judges a change by what is known of the service beside the rule: who is to blame, what earlier
//! changes did, how old the data are, what is still starting.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Guards that need a diagnosis; without one, none of them does anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControlSpec {
    /// What to do with a scale-up that would help another service, or nobody (default block).
    pub cause: CauseGuard,
    /// Whether many violations on a loaded service raise the capacity beyond what the rule demands (default true).
    pub reactive: bool,
    /// How long a replica takes from its order until it serves (default as nine of ten of the last starts; 60s until three
    /// were seen).
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub startup: Option<Duration>,
    /// No scale-down so long after a new version of the service (default 15m).
    #[serde(with = "crate::duration::text")]
    pub after_deployment: Duration,
    /// No scale-down so long after data were missing (default the stabilization window of the way down; 15m where
    /// `onMissing` is usual).
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub after_outage: Option<Duration>,
    /// How changes are verified.
    pub verify: VerifySpec,
}

/// What to do with a scale-up that would not help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CauseGuard {
    /// Do not scale up; the decision names the service that would help.
    #[default]
    Block,
    /// Scale up, and say so.
    Note,
    /// Do not look.
    Off,
}

/// A change is verified: requests that violated the objective before it are compared with those after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VerifySpec {
    /// Whether to verify (default true).
    pub enabled: bool,
    /// How long a change takes to show (default the start-up plus two minutes).
    #[serde(with = "crate::duration::option", skip_serializing_if = "Option::is_none")]
    pub settle: Option<Duration>,
    /// After a scale-down was taken back, no lower for so long (default 1h); doubles when it happens again, up to a day.
    #[serde(with = "crate::duration::text")]
    pub floor: Duration,
}

/// What a change needs beyond the start-up until it shows in latency.
const SHOWS_AFTER: Duration = Duration::from_secs(120);

// === impl ControlSpec ===

impl Default for ControlSpec {
    fn default() -> Self {
        Self {
            cause: CauseGuard::default(),
            reactive: true,
            startup: None,
            after_deployment: Duration::from_secs(15 * 60),
            after_outage: None,
            verify: VerifySpec::default(),
        }
    }
}

impl ControlSpec {
    /// True when nothing differs from the default; then records leave it out.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How long a change takes to show, where replicas take `startup` to start.
    #[must_use]
    pub fn settle(&self, startup: Duration) -> Duration {
        self.verify.settle.unwrap_or_else(|| startup.saturating_add(SHOWS_AFTER))
    }
}

// === impl VerifySpec ===

impl Default for VerifySpec {
    fn default() -> Self {
        Self { enabled: true, settle: None, floor: Duration::from_secs(3600) }
    }
}
