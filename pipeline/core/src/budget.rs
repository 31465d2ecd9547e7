//! Budgets: a ceiling over the replicas of many targets together, and how what is left below it is shared.
//!
//! ```text
//! left = ceiling − Σ what members have      wishes of the highest priority first, then in proportion to wish and weight
//! ```
//!
//! A budget only limits growth: no member is left less than it has, nor less than its own min. All arithmetic is in whole
//! numbers and ties go by name, so the same members always get the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::name::TargetName;

/// Weight of a member that names none.
pub const WEIGHT: u32 = 1;
/// Largest weight.
pub const MAX_WEIGHT: u32 = 1000;

/// A ceiling over the replicas of several targets together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Unique among budgets.
    pub name: String,
    /// Its targets; `None` is every target.
    pub targets: Option<BTreeSet<TargetName>>,
    /// Most replicas of all of them together.
    pub max_replicas: u32,
    /// Weights of members, 1..=[`MAX_WEIGHT`]; the others have [`WEIGHT`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<TargetName, u32>,
    /// Priorities of members, the highest is served first; the others have 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub priorities: BTreeMap<TargetName, i32>,
}

/// A target that may be a member of budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Replicas that it is asked to have, or that an action under way asks for if that is more.
    pub current: u32,
    /// Its min: never refused.
    pub least: u32,
    /// Replicas that it would have without a budget; see [`Decision::wish`](crate::decide::Decision::wish).
    pub wish: u32,
}

/// What a budget leaves to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetShare {
    /// The budget.
    pub name: String,
    /// Most replicas that the target may grow to.
    pub allowed: u32,
}

/// What a member asks for beyond what it has.
struct Ask<'a> {
    target: &'a TargetName,
    priority: i32,
    weight: u32,
    open: u32,
}

// === impl Budget ===

impl Budget {
    /// True when the target is a member.
    #[must_use]
    pub fn covers(&self, target: &TargetName) -> bool {
        self.targets.as_ref().is_none_or(|targets| targets.contains(target))
    }

    /// The most replicas that each member may have. Those that are not members do not count and get nothing.
    #[must_use]
    pub fn share(&self, targets: &BTreeMap<TargetName, Member>) -> BTreeMap<TargetName, u32> {
        let members = || targets.iter().filter(|(name, _)| self.covers(name));
        let mut allowed: BTreeMap<TargetName, u32> = members().map(|(name, member)| (name.clone(), member.held())).collect();
        let held: u64 = allowed.values().map(|held| u64::from(*held)).sum();
        let mut left = u64::from(self.max_replicas).saturating_sub(held);
        let asks = members().map(|(target, member)| Ask {
            target,
            priority: self.priorities.get(target).copied().unwrap_or_default(),
            weight: self.weights.get(target).copied().unwrap_or(WEIGHT).clamp(1, MAX_WEIGHT),
            open: member.wish.saturating_sub(member.held()),
        });
        let mut classes: BTreeMap<i32, Vec<Ask<'_>>> = BTreeMap::new();
        asks.filter(|ask| ask.open > 0).for_each(|ask| classes.entry(ask.priority).or_default().push(ask));
        for class in classes.into_values().rev() {
            for (target, granted) in grant(left, class) {
                left = left.saturating_sub(u64::from(granted));
                allowed.entry(target.clone()).and_modify(|most| *most = most.saturating_add(granted));
            }
        }
        allowed
    }
}

/// What all budgets together leave to one target: the share of the one that leaves least, `None` when none covers it.
#[must_use]
pub fn tightest(budgets: &[Budget], targets: &BTreeMap<TargetName, Member>, target: &TargetName) -> Option<BudgetShare> {
    let covering = budgets.iter().filter(|budget| budget.covers(target));
    let shares = covering.filter_map(|budget| {
        let allowed = budget.share(targets).get(target).copied()?;
        Some(BudgetShare { name: budget.name.clone(), allowed })
    });
    shares.min_by(|a, b| a.allowed.cmp(&b.allowed).then_with(|| a.name.cmp(&b.name)))
}

// === impl Member ===

impl Member {
    /// What it has, or must have.
    fn held(self) -> u32 {
        self.current.max(self.least)
    }
}

/// Shares what is left among asks of one priority, in proportion to ask times weight, nobody more than asked.
fn grant(mut left: u64, mut asks: Vec<Ask<'_>>) -> Vec<(&TargetName, u32)> {
    let mut granted = Vec::new();
    loop {
        let total: u128 = asks.iter().map(|ask| part(ask)).sum();
        if total == 0 || left == 0 {
            return granted;
        }
        let quota = |ask: &Ask<'_>| u128::from(left) * part(ask) / total;
        // Whom its part would more than satisfy is satisfied first; the others share the rest anew.
        let (full, rest): (Vec<_>, Vec<_>) = asks.into_iter().partition(|ask| quota(ask) >= u128::from(ask.open));
        if full.is_empty() {
            granted.extend(split(left, &rest, total));
            return granted;
        }
        left = left.saturating_sub(full.iter().map(|ask| u64::from(ask.open)).sum());
        granted.extend(full.into_iter().map(|ask| (ask.target, ask.open)));
        asks = rest;
    }
}

/// Splits what is left where it satisfies nobody: whole parts, and the rest to the largest remainders.
fn split<'a>(left: u64, asks: &[Ask<'a>], total: u128) -> Vec<(&'a TargetName, u32)> {
    let mut parts: Vec<_> = asks
        .iter()
        .map(|ask| {
            let product = u128::from(left) * part(ask);
            (ask.target, u32::try_from(product / total).unwrap_or(u32::MAX), product % total)
        })
        .collect();
    let whole: u64 = parts.iter().map(|(_, whole, _)| u64::from(*whole)).sum();
    parts.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| a.0.cmp(b.0)));
    let spare = usize::try_from(left.saturating_sub(whole)).unwrap_or(usize::MAX);
    parts.into_iter().enumerate().map(|(index, (target, whole, _))| (target, whole + u32::from(index < spare))).collect()
}

fn part(ask: &Ask<'_>) -> u128 {
    u128::from(ask.open) * u128::from(ask.weight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> TargetName {
        TargetName::try_new(text).unwrap()
    }

    fn budget(max_replicas: u32) -> Budget {
        Budget { name: "shop".to_owned(), targets: None, max_replicas, weights: BTreeMap::new(), priorities: BTreeMap::new() }
    }

    /// Members from `(name, current, wish)`.
    fn members(list: &[(&str, u32, u32)]) -> BTreeMap<TargetName, Member> {
        list.iter().map(|(text, current, wish)| (name(text), Member { current: *current, least: 1, wish: *wish })).collect()
    }

    fn allowed(budget: &Budget, members: &BTreeMap<TargetName, Member>) -> Vec<u32> {
        budget.share(members).into_values().collect()
    }

    /// Guarantees: enough for all is given to all, too little in proportion to what is asked for, remainders by size then name.
    #[test]
    fn what_is_left_is_shared() {
        let all = members(&[("a", 4, 8), ("b", 4, 6), ("c", 4, 4)]);
        assert_eq!(allowed(&budget(18), &all), [8, 6, 4]);
        assert_eq!(allowed(&budget(15), &all), [6, 5, 4]);
        assert_eq!(allowed(&budget(14), &all), [5, 5, 4], "4/3 and 2/3: the larger remainder gets the second replica");
        assert_eq!(allowed(&budget(13), &members(&[("a", 4, 8), ("b", 4, 8), ("c", 4, 4)])), [5, 4, 4], "a tie goes by name");
    }

    /// Guarantees: a full or overdrawn budget takes nothing back, and the min of a member is never refused.
    #[test]
    fn nobody_is_forced_down() {
        assert_eq!(allowed(&budget(5), &members(&[("a", 4, 8), ("b", 4, 2)])), [4, 4]);
        let asleep = BTreeMap::from([(name("a"), Member { current: 0, least: 2, wish: 9 })]);
        assert_eq!(allowed(&budget(1), &asleep), [2]);
    }

    /// Guarantees: the highest priority is served first, and weights shift what equals get, never beyond what they ask for.
    #[test]
    fn priorities_then_weights() {
        let all = members(&[("a", 1, 11), ("b", 1, 11), ("c", 1, 3)]);
        let ranked = Budget { priorities: BTreeMap::from([(name("b"), 5)]), ..budget(15) };
        assert_eq!(allowed(&ranked, &all), [3, 11, 1], "2 for 10 and 2: 1.67 and 0.33");
        let weighted = Budget { weights: BTreeMap::from([(name("b"), 3)]), ..budget(13) };
        assert_eq!(allowed(&weighted, &all), [3, 8, 2], "10 for 10, 30 and 2 parts of 42");
        let satisfied = Budget { weights: BTreeMap::from([(name("c"), 1000)]), ..budget(7) };
        assert_eq!(allowed(&satisfied, &all), [2, 2, 3], "c is satisfied, the rest is shared anew");
    }

    /// Guarantees: of several budgets the tightest counts, and a target in none has none.
    #[test]
    fn the_tightest_counts() {
        let all = members(&[("a", 1, 9), ("b", 1, 9)]);
        let narrow = Budget { name: "narrow".to_owned(), targets: Some(BTreeSet::from([name("a")])), ..budget(4) };
        let budgets = [budget(12), narrow];
        assert_eq!(tightest(&budgets, &all, &name("a")), Some(BudgetShare { name: "narrow".to_owned(), allowed: 4 }));
        assert_eq!(tightest(&budgets, &all, &name("b")), Some(BudgetShare { name: "shop".to_owned(), allowed: 6 }));
        assert_eq!(tightest(&budgets[1..], &all, &name("b")), None);
    }

    proptest! {
        /// Guarantees: never less than a member has, never more than it asks for, the ceiling is kept unless it was broken
        /// before, and nothing is left while somebody asks.
        #[test]
        fn shares_are_lawful(
            max in 0_u32..200,
            list in prop::collection::vec((0_u32..30, 0_u32..3, 0_u32..60, 1_u32..5, 0_i32..3), 0..8),
        ) {
            let named = |index: usize| name(&format!("t{index}"));
            let all: BTreeMap<_, _> =
                list.iter().enumerate().map(|(i, (current, least, wish, ..))| (named(i), Member { current: *current, least: *least, wish: *wish })).collect();
            let mut budget = budget(max);
            for (index, (.., weight, priority)) in list.iter().enumerate() {
                budget.weights.insert(named(index), *weight);
                budget.priorities.insert(named(index), *priority);
            }
            let shares = budget.share(&all);
            let held: u32 = all.values().map(|member| member.held()).sum();
            let given: u32 = shares.values().sum();
            prop_assert!(given <= held.max(max));
            for (name, share) in &shares {
                let member = all[name];
                prop_assert!(*share >= member.held() && *share <= member.held().max(member.wish));
            }
            let unsatisfied = all.iter().any(|(name, member)| shares[name] < member.wish);
            prop_assert!(!unsatisfied || given >= max);
        }
    }
}
