//! Scaling rules.

use std::sync::Arc;
use std::time::Duration;

use tracescale_core::policy::{Mode, Policy, RuleName, RuleRef};
use tracescale_core::rollout::{RolloutSpec, Version};
use tracescale_core::target::TargetName;

use crate::reader::{At, Reader};
use crate::{Metadata, policy, rollout};

/// Longest query in bytes.
const MAX_SQL: usize = 64 << 10;
/// Shortest interval: rules read views, which move once per slide.
const MIN_EVERY: Duration = Duration::from_millis(100);
/// Longest interval.
const MAX_EVERY: Duration = Duration::from_secs(24 * 3600);

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
    /// How a change of it comes into force; `None` is at once.
    pub rollout: Option<RolloutSpec>,
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
        RuleRef { name: self.name.clone(), mode: self.mode, every: self.every, policy: Arc::clone(&self.policy) }
    }

    /// Identifies what a rollout rolls out: query, interval and policy. Mode and targets are people's own steps.
    #[must_use]
    pub fn version(&self) -> Version {
        let spec = self.policy.spec();
        let policy = serde_json::to_string(spec).unwrap_or_else(|_| format!("{spec:?}"));
        Version::of([self.sql.as_str(), &tracescale_core::duration::format(self.every), &policy])
    }

    /// True when the rule serves the target.
    #[must_use]
    pub fn serves(&self, target: &TargetName) -> bool {
        self.targets.as_ref().is_none_or(|scope| scope.names.contains(target))
    }
}

/// The names of a scope, each with its line and path.
pub(crate) type Names = Vec<(TargetName, u64, String)>;

/// Reads the `spec` of a rule, and the names in it, also when the rule is not usable.
pub(crate) fn read(reader: &mut Reader, metadata: &Metadata, spec: &At<'_>) -> (Option<RuleSpec>, Names) {
    let before = reader.problems.len();
    let Some(mut fields) = reader.fields(spec) else { return (None, Names::new()) };
    let every = fields.take(reader, "every").and_then(|at| reader.duration(&at, MIN_EVERY, MAX_EVERY));
    let modes = [("off", Mode::Off), ("recommend", Mode::Recommend), ("enforce", Mode::Enforce)];
    let mode = fields.take(reader, "mode").and_then(|at| reader.one_of(&at, &modes));
    let sql = fields.require(reader, "sql", "a query with the columns `target` and `replicas`").and_then(|at| {
        let text = reader.text(&at)?.to_owned();
        if text.len() > MAX_SQL {
            reader.report(at.line, &at.path, None, format!("is longer than {MAX_SQL} bytes"), None);
        }
        Some(text)
    });
    let policy = fields.require(reader, "policy", "at least `policy: {max: 10}`").map(|at| policy::read(reader, &at));
    let scope = fields.take(reader, "targets").map(|at| names(reader, &at));
    let rollout = fields.take(reader, "rollout").map(|at| rollout::read(reader, &at));
    fields.finish(reader);
    let names = scope.clone().unwrap_or_default();
    let make = || {
        Some(RuleSpec {
            name: RuleName::try_new(metadata.name.clone()?).ok()?,
            every: every.unwrap_or(Duration::from_secs(5)),
            mode: mode.unwrap_or_default(),
            sql: sql?,
            policy: policy?,
            targets: scope.map(|names| TargetScope { names: names.into_iter().map(|(name, ..)| name).collect() }),
            rollout,
        })
    };
    // A rule with any problem is no rule: what stands in for the wrong parts must not run.
    (if reader.problems.len() == before { make() } else { None }, names)
}

pub(crate) fn names(reader: &mut Reader, at: &At<'_>) -> Names {
    let items = reader.items(at);
    if items.is_empty() {
        reader.wrong(at, "names no target", "leave the field out for every target".to_owned());
    }
    let mut names = Names::new();
    for item in &items {
        let Some(text) = reader.text(item) else { continue };
        match TargetName::try_new(text) {
            Ok(name) if names.iter().any(|(other, ..)| *other == name) => reader.wrong(item, "stands here twice", None),
            Ok(name) => names.push((name, item.line, item.path.clone())),
            Err(error) => reader.wrong(item, error, None),
        }
    }
    names
}
