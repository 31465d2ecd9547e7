//! Rollout of a changed rule: it is watched first, then decides for a few targets, then for all, or is taken back.
//!
//! ```text
//! Shadow ──▶ Canary ──▶ Full           a new content begins again at Shadow
//!    └──────────┴─────▶ Reverted       and stays there until the content changes
//! ```
//!
//! A rule is known by its name, a version of it by a hash of its content. The first version that is ever seen of a rule has
//! nobody to replace and applies at once, as every version does of a rule without `rollout`. Time and counts are arguments;
//! the state can be written down and read back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{RuleName, TargetName};
use crate::proportion::{Count, REPEATED};
use crate::time::Timestamp;

/// How a changed rule comes into force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RolloutSpec {
    /// How long it is only watched (default 30m).
    #[serde(with = "crate::duration::text")]
    pub shadow: Duration,
    /// The few targets for which it decides first.
    pub canary: CanarySpec,
    /// What takes it back.
    pub revert_on: RevertSpec,
}

/// The few targets for which a changed rule decides first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CanarySpec {
    /// Share of its targets, 0..1 (default 0.1). At least one, where there is any.
    pub share: f64,
    /// How long (default 1h).
    #[serde(rename = "for", with = "crate::duration::text")]
    pub length: Duration,
}

/// What takes a changed rule back. All are on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RevertSpec {
    /// Its targets violate their objective significantly more than before, and than the others.
    pub violations: bool,
    /// A scale-down that it made was rolled back.
    pub rollback: bool,
    /// It cannot be evaluated.
    pub failure: bool,
}

/// Identifies the content of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(u64);

/// How far a version has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stage {
    /// It is watched; the previous version decides.
    Shadow {
        /// Since when.
        since: Timestamp,
    },
    /// It decides for its canaries, the previous version for the others.
    Canary {
        /// Since when.
        since: Timestamp,
        /// The targets for which it decides.
        targets: Vec<TargetName>,
    },
    /// It decides for all.
    Full,
    /// The previous version decides, until the content changes.
    Reverted {
        /// Since when.
        at: Timestamp,
        /// Why.
        why: Why,
    },
}

/// Why a version was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// More requests of its targets were over the objective.
    Violations {
        /// On its canaries since they are canaries.
        canary: Count,
        /// On the others at the same time.
        control: Option<Count>,
        /// On the canaries before.
        before: Option<Count>,
    },
    /// A scale-down that it made was rolled back.
    RolledBack {
        /// At which target.
        target: TargetName,
    },
    /// It could not be evaluated.
    Failed {
        /// What the engine said.
        error: String,
    },
}

/// What was seen of a version since it was asked last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests over the objective at its canaries since the stage began.
    pub canary: Option<Count>,
    /// The same at its other targets.
    pub control: Option<Count>,
    /// The same at its canaries in a window as long, before the stage began.
    pub before: Option<Count>,
    /// A canary of which a scale-down was rolled back.
    pub rolled_back: Option<TargetName>,
    /// Why it cannot be evaluated.
    pub failed: Option<String>,
}

/// Which version decides for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decides {
    /// The one in the documents.
    New,
    /// The one before.
    Previous,
}

/// The rollout of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// The version in the documents.
    version: Version,
    /// The version that decided for all last; that version's text must be kept while this one is not in force.
    previous: Version,
    stage: Stage,
}

/// The rollouts of all rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rollouts {
    rules: BTreeMap<RuleName, Rollout>,
}

// === impl RolloutSpec ===

impl Default for RolloutSpec {
    fn default() -> Self {
        Self { shadow: Duration::from_secs(30 * 60), canary: CanarySpec::default(), revert_on: RevertSpec::default() }
    }
}

// === impl CanarySpec ===

impl Default for CanarySpec {
    fn default() -> Self {
        Self { share: 0.1, length: Duration::from_secs(3600) }
    }
}

// === impl RevertSpec ===

impl Default for RevertSpec {
    fn default() -> Self {
        Self { violations: true, rollback: true, failure: true }
    }
}

// === impl Version ===

impl Version {
    /// The version of some parts of a content, such as the query and the policy. Their borders count.
    #[must_use]
    pub fn of<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let bytes = parts.into_iter().flat_map(|part| part.bytes().chain([0xff]));
        Self(hash(bytes))
    }
}

// === impl Stage ===

impl Stage {
    /// The label in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Shadow { .. } => "shadow",
            Self::Canary { .. } => "canary",
            Self::Full => "full",
            Self::Reverted { .. } => "reverted",
        }
    }
}

// === impl Rollouts ===

impl Rollouts {
    /// No rule is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a rule as it now stands in the documents.
    pub fn load(&mut self, now: Timestamp, rule: &RuleName, version: Version, spec: Option<&RolloutSpec>) {
        let Some(known) = self.rules.get_mut(rule) else {
            self.rules.insert(rule.clone(), Rollout { version, previous: version, stage: Stage::Full });
            return;
        };
        if spec.is_none() || version == known.in_force() {
            *known = Rollout { version, previous: version, stage: Stage::Full };
        } else if version != known.version {
            *known = Rollout { version, previous: known.in_force(), stage: Stage::Shadow { since: now } };
        }
    }

    /// Forgets rules that are no longer in the documents.
    pub fn retain(&mut self, mut keep: impl FnMut(&RuleName) -> bool) {
        self.rules.retain(|name, _| keep(name));
    }

    /// The rollout of a rule.
    #[must_use]
    pub fn get(&self, rule: &RuleName) -> Option<&Rollout> {
        self.rules.get(rule)
    }

    /// How many rules are at each stage.
    #[must_use]
    pub fn stages(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::from([("shadow", 0), ("canary", 0), ("full", 0), ("reverted", 0)]);
        self.rules.values().for_each(|rollout| *counts.entry(rollout.stage.as_str()).or_default() += 1);
        counts
    }

    /// Moves a rollout on when it is time, or takes the version back. `targets` are those that the rule serves. Gives the stage
    /// when it changed.
    pub fn advance<'a>(
        &mut self,
        now: Timestamp,
        rule: &RuleName,
        spec: &RolloutSpec,
        targets: impl IntoIterator<Item = &'a TargetName>,
        seen: &Seen,
    ) -> Option<&Stage> {
        let rollout = self.rules.get_mut(rule)?;
        let next = rollout.next(now, spec, targets, seen)?;
        rollout.stage = next;
        Some(&rollout.stage)
    }
}

// === impl Rollout ===

impl Rollout {
    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The version in the documents.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version that decides where the one in the documents does not: its text must be kept. `None` when it is not needed.
    #[must_use]
    pub fn previous(&self) -> Option<Version> {
        (self.stage != Stage::Full).then_some(self.previous)
    }

    /// Which version decides for a target.
    #[must_use]
    pub fn decides(&self, target: &TargetName) -> Decides {
        match &self.stage {
            Stage::Full => Decides::New,
            Stage::Canary { targets, .. } if targets.contains(target) => Decides::New,
            Stage::Canary { .. } | Stage::Shadow { .. } | Stage::Reverted { .. } => Decides::Previous,
        }
    }

    /// The version that decides for all targets but canaries.
    fn in_force(&self) -> Version {
        if self.stage == Stage::Full { self.version } else { self.previous }
    }

    fn next<'a>(
        &self,
        now: Timestamp,
        spec: &RolloutSpec,
        targets: impl IntoIterator<Item = &'a TargetName>,
        seen: &Seen,
    ) -> Option<Stage> {
        let is_canary = match &self.stage {
            Stage::Shadow { .. } => false,
            Stage::Canary { .. } => true,
            Stage::Full | Stage::Reverted { .. } => return None,
        };
        if let Some(why) = reverts(spec.revert_on, is_canary, seen) {
            return Some(Stage::Reverted { at: now, why });
        }
        match &self.stage {
            Stage::Shadow { since } if now.since(*since) >= spec.shadow => {
                let targets = canaries(self.version, spec.canary.share, targets);
                // Without targets there is nobody to try it on.
                Some(if targets.is_empty() || spec.canary.length.is_zero() { Stage::Full } else { Stage::Canary { since: now, targets } })
            }
            Stage::Canary { since, .. } if now.since(*since) >= spec.canary.length => Some(Stage::Full),
            _ => None,
        }
    }
}

/// What takes a version back. In its shadow stage it decides for nobody: only failing counts.
fn reverts(on: RevertSpec, is_canary: bool, seen: &Seen) -> Option<Why> {
    if let (true, Some(error)) = (on.failure, &seen.failed) {
        return Some(Why::Failed { error: error.clone() });
    }
    if let (true, true, Some(target)) = (on.rollback, is_canary, &seen.rolled_back) {
        return Some(Why::RolledBack { target: target.clone() });
    }
    let canary = seen.canary.filter(|_| on.violations && is_canary)?;
    // A load that grew everywhere is not its fault, nor are targets that were always slower than others: it must be worse
    // than whatever there is to compare with. It is asked again and again, which the limit allows for.
    let sides = [seen.control, seen.before];
    let is_worse = sides.iter().flatten().all(|side| canary.is_above(*side, REPEATED)) && sides.iter().any(Option::is_some);
    is_worse.then_some(Why::Violations { canary, control: seen.control, before: seen.before })
}

/// The targets on which a version is tried first: those whose names hash lowest together with the version, so that it is not
/// always the same ones.
fn canaries<'a>(version: Version, share: f64, targets: impl IntoIterator<Item = &'a TargetName>) -> Vec<TargetName> {
    let ranked = |target: &'a TargetName| (hash(version.0.to_le_bytes().into_iter().chain(target.as_str().bytes())), target);
    let mut ranked: Vec<_> = targets.into_iter().map(ranked).collect();
    ranked.sort_unstable();
    ranked.dedup();
    let count = part(ranked.len(), share);
    let mut chosen: Vec<_> = ranked.into_iter().take(count).map(|(_, target)| target.clone()).collect();
    chosen.sort_unstable();
    chosen
}

/// A share of a number, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of the number of targets"
)]
fn part(all: usize, share: f64) -> usize {
    ((all as f64 * share.clamp(0.0, 1.0) - 1e-9).ceil() as usize).clamp(usize::from(all > 0), all)
}

/// FNV-1a (Fowler, Noll and Vo) with the final mixing of splitmix64, which spreads names that differ in their last letter only.
fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = bytes.into_iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests;
