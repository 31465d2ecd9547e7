//! What people are told that a rule, a view or a sink did wrong, and how often they are told the same.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use tracescale_core::policy::RuleName;
use tracescale_core::proportion::Count;
use tracescale_core::rollout::{Stage, Why};
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;
use tracescale_sinks::SinkError;

use crate::controller::{Disagreement, Unheard};
use crate::logged::Alert;
use crate::rules::RuleFailure;

/// Something people should know; each says what it is about.
#[derive(Debug)]
pub enum Warning {
    /// A rule could not be evaluated.
    RuleFailed {
        /// The rule.
        rule: RuleName,
        /// Why.
        failure: RuleFailure,
        /// Evaluations that failed since it was last told, this one included.
        times: u64,
    },
    /// A rule that had failed was evaluated.
    RuleRecovered {
        /// The rule.
        rule: RuleName,
    },
    /// A rule named targets that it does not serve, or that nobody described.
    UnknownTargets {
        /// The rule.
        rule: RuleName,
        /// Some of the names.
        names: Vec<String>,
        /// Evaluations that named such targets since it was last told, this one included.
        times: u64,
    },
    /// Documents describe targets that no rule ever had a row for.
    Unanswered {
        /// Some of the names.
        names: Vec<String>,
    },
    /// A rule was due again before its last evaluation came back.
    RuleLate {
        /// The rule.
        rule: RuleName,
    },
    /// A changed rule came a stage further, or was taken back.
    Rollout {
        /// The rule.
        rule: RuleName,
        /// The stage that it is in now.
        stage: Stage,
    },
    /// Spans account for far fewer requests of a target's service than its metrics count, or for far more.
    Sampling {
        /// The target.
        target: TargetName,
        /// How far they are apart.
        news: Disagreement,
    },
    /// The sampling of services was declared that nobody heard of.
    Unheard(Unheard),
    /// A sink refused or failed.
    SinkFailed {
        /// The target.
        target: TargetName,
        /// Why.
        error: SinkError,
    },
}

/// Troubles that last, by what is in trouble. Each is told when it begins, when its message changes, once a minute while it
/// lasts, and when it is over: not at every evaluation.
#[derive(Debug)]
pub struct Troubles<K> {
    lasting: BTreeMap<K, Trouble>,
}

#[derive(Debug)]
struct Trouble {
    message: String,
    told_at: Timestamp,
    /// The last that was told is that it lasts, not that it is over.
    lasts: bool,
    /// How often it came since it was told.
    untold: u64,
    /// Changes of the message that were told at once since the last regular telling.
    changes: u32,
}

/// Time between two tellings of a trouble that lasts. One that comes and goes is told no more often.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// Changes of the message that are told at once in that time; a message may hold a number that changes each time.
const CHANGES_MAX: u32 = 3;

/// An error with all its causes, each said once.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

// === impl Warning ===

impl Warning {
    /// As it is archived.
    #[must_use]
    pub fn alert(&self, at: Timestamp) -> Alert {
        let alert = |kind: &str, subject: &str, message: String| Alert { at, kind: kind.to_owned(), subject: subject.to_owned(), message };
        match self {
            Self::RuleFailed { rule, failure, times } => alert("rule_failed", rule.as_str(), format!("{} ({times} times)", chain(failure))),
            Self::RuleRecovered { rule } => alert("rule_recovered", rule.as_str(), "the rule works again".to_owned()),
            Self::UnknownTargets { rule, names, times } => {
                alert("unknown_targets", rule.as_str(), format!("named {} ({times} times)", names.join(", ")))
            }
            Self::Unanswered { names } => alert("unanswered_targets", "", format!("no rule ever had a row for {}", names.join(", "))),
            Self::RuleLate { rule } => alert("rule_late", rule.as_str(), "due again before its last evaluation came back".to_owned()),
            Self::Rollout { rule, stage } => {
                let kind = if matches!(stage, Stage::Reverted { .. }) { "rule_reverted" } else { "rule_rollout" };
                alert(kind, rule.as_str(), told(stage))
            }
            Self::Sampling { target, news } => {
                let kind = if news.is_sampled() { "traces_sampled" } else { "traces_overcounted" };
                alert(kind, target.as_str(), news.to_string())
            }
            Self::Unheard(unheard) => alert("sampling_unmatched", "", unheard.to_string()),
            Self::SinkFailed { target, error } => {
                alert("sink_failed", target.as_str(), format!("{}: {}", error.kind.as_str(), chain(error)))
            }
        }
    }
}

/// A stage in words.
#[must_use]
pub fn told(stage: &Stage) -> String {
    let of = |count: &Count| format!("{} of {}", count.bad, count.all);
    match stage {
        Stage::Shadow { .. } => "the changed rule is watched; the one before decides".to_owned(),
        Stage::Canary { targets, .. } => {
            let names: Vec<_> = targets.iter().take(5).map(TargetName::as_str).collect();
            let more = if targets.len() > names.len() { ", …" } else { "" };
            format!("the changed rule decides for {} of its targets: {}{more}", targets.len(), names.join(", "))
        }
        Stage::Full => "the changed rule decides for all its targets".to_owned(),
        Stage::Reverted { why: Why::Violations { canary, control, before }, .. } => {
            let control = control.as_ref().map(|count| format!(", {} at the others", of(count))).unwrap_or_default();
            let before = before.as_ref().map(|count| format!(", {} before", of(count))).unwrap_or_default();
            format!("taken back: {} requests were over the objective where it decided{control}{before}", of(canary))
        }
        Stage::Reverted { why: Why::RolledBack { target }, .. } => format!("taken back: its scale-down of {target} was rolled back"),
        Stage::Reverted { why: Why::Failed { error }, .. } => format!("taken back: it cannot be evaluated: {error}"),
    }
}

// === impl Troubles ===

impl<K: Ord> Troubles<K> {
    /// Something is wrong with `what`. How often it was so since people were last told, when it is time to tell them.
    pub fn wrong(&mut self, now: Timestamp, what: K, message: &str, times: u64) -> Option<u64> {
        let Some(trouble) = self.lasting.get_mut(&what) else {
            let trouble = Trouble { message: message.to_owned(), told_at: now, lasts: true, untold: 0, changes: 0 };
            let _ = self.lasting.insert(what, trouble);
            return Some(times);
        };
        trouble.untold += times;
        let is_due = trouble.is_due(now);
        let has_changed = trouble.lasts && trouble.message != message && trouble.changes < CHANGES_MAX;
        if !is_due && !has_changed {
            return None;
        }
        let changes = if is_due { 0 } else { trouble.changes + 1 };
        let told = trouble.untold;
        *trouble = Trouble { message: message.to_owned(), told_at: now, lasts: true, untold: 0, changes };
        Some(told)
    }

    /// Nothing is wrong with `what`. True when people believe that something is.
    pub fn right(&mut self, now: Timestamp, what: &K) -> bool {
        let Some(trouble) = self.lasting.get_mut(what) else { return false };
        let is_news = trouble.lasts;
        if is_news {
            trouble.lasts = false;
            trouble.told_at = now;
        } else if trouble.is_due(now) {
            let _ = self.lasting.remove(what);
        }
        is_news
    }

    /// Forgets what is not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&K) -> bool) {
        self.lasting.retain(|what, _| is_there(what));
    }
}

impl<K> Default for Troubles<K> {
    fn default() -> Self {
        Self { lasting: BTreeMap::new() }
    }
}

// === impl Trouble ===

impl Trouble {
    /// Whether it is time to tell it again; a clock that stepped back does not silence it.
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.told_at + TELL_EVERY || now < self.told_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(1_767_600_000 + seconds)
    }

    /// Guarantees: a trouble is told when it begins, once a minute with a count while it lasts, and when it is over.
    #[test]
    fn a_trouble_is_told_once_a_minute() {
        let mut troubles = Troubles::default();
        let told: Vec<_> =
            (0..150).step_by(5).filter_map(|second| Some((second, troubles.wrong(at(second), "rule", "broken", 1)?))).collect();
        assert_eq!(told, [(0, 1), (60, 12), (120, 12)]);
        assert_eq!((troubles.right(at(150), &"rule"), troubles.right(at(155), &"rule")), (true, false));
        // Over for a minute: another one is news.
        assert!(!troubles.right(at(215), &"rule"));
        assert_eq!(troubles.wrong(at(220), "rule", "broken", 1), Some(1));
        assert_eq!(troubles.wrong(at(-1000), "rule", "broken", 1), Some(1));
    }

    /// Guarantees: another message is told at once, but one that is another each time, or a trouble that comes and goes, does
    /// not fill the log.
    #[test]
    fn what_changes_is_told_within_bounds() {
        let mut troubles = Troubles::default();
        assert_eq!(troubles.wrong(at(0), "rule", "one", 1), Some(1));
        assert_eq!(troubles.wrong(at(5), "rule", "one", 1), None);
        assert_eq!(troubles.wrong(at(10), "rule", "two", 1), Some(2));
        let told = (1..600).filter(|second| troubles.wrong(at(10 + second), "rule", &second.to_string(), 1).is_some()).count();
        assert!(told <= 4 * 11, "{told}");
        let mut flapping = Troubles::default();
        let tellings = (0..600).map(|second| match second % 2 {
            0 => usize::from(flapping.wrong(at(second), "rule", "broken", 1).is_some()),
            _ => usize::from(flapping.right(at(second), &"rule")),
        });
        let told: usize = tellings.sum();
        assert!(told <= 2 * 11, "{told}");
    }
}
