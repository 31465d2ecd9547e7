//! Scaling rules.

use std::sync::Arc;
use std::time::Duration;

use tracescale_core::policy::{Mode, Policy, RuleName, RuleRef};
use tracescale_core::target::TargetName;

/// A scaling rule: SQL that says what each target needs, and the policy that guards it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSpec {
    /// Unique among all rules.
    pub name: RuleName,
    /// How often it is evaluated.
    pub every: Duration,
    /// What it may do.
    pub mode: Mode,
    /// The query, not yet checked.
    pub sql: String,
    /// The guards.
    pub policy: Arc<Policy>,
    /// The targets it may name; `None` is every target.
    pub targets: Option<TargetScope>,
}

/// The targets that a rule serves. A target in scope for which it returns no row is *missing*, not content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetScope {
    /// Their names; all of them exist.
    pub names: Vec<TargetName>,
}

// === impl RuleSpec ===

impl RuleSpec {
    /// The rule as the decider needs it.
    #[must_use]
    pub fn reference(&self) -> RuleRef {
        RuleRef { name: self.name.clone(), mode: self.mode, policy: Arc::clone(&self.policy) }
    }

    /// True when the rule serves the target.
    #[must_use]
    pub fn serves(&self, target: &TargetName) -> bool {
        self.targets.as_ref().is_none_or(|scope| scope.names.contains(target))
    }
}
