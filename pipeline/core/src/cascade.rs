//! Changes of services that call each other, in an order that overloads nobody: capacity is added downstream first and taken
//! away upstream first.
//!
//! ```text
//! front ─▶ cart ─▶ db      up: db, cart, front      down: front, cart, db
//! ```
//!
//! A saturated service holds its callees' load down; opening it first would flood them. So a scale-up waits until those of the
//! services that it reaches are ready, for a bounded time. Services that reach each other do not wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::TargetName;
use crate::policy::Direction;
use crate::time::Timestamp;

/// Longest wait in start-ups of the target that waits.
pub const PATIENCE: u32 = 2;

/// Who calls whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    callees: BTreeMap<TargetName, BTreeSet<TargetName>>,
}

/// What a target is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Replicas that it is asked to have.
    pub current: u32,
    /// Replicas that can serve; `None` when nobody knows, which counts as all.
    pub ready: Option<u32>,
    /// Replicas that it would have if it waited for nobody; see [`Decision::wish`](crate::decide::Decision::wish).
    pub wish: u32,
    /// How long its replicas take to start.
    pub startup: Duration,
}

/// The change that a target's change must wait for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// The target whose change comes first.
    pub behind: TargetName,
    /// Which changes wait.
    pub direction: Direction,
    /// The first instant at which it waits no longer.
    pub until: Timestamp,
}

/// Who waits, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cascade {
    waiting: BTreeMap<TargetName, Waiting>,
}

/// A target that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    direction: Direction,
    since: Timestamp,
}

// === impl Calls ===

impl Calls {
    /// From pairs of caller and callee; calls to oneself do not count.
    #[must_use]
    pub fn new(pairs: impl IntoIterator<Item = (TargetName, TargetName)>) -> Self {
        let mut callees: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (caller, callee) in pairs.into_iter().filter(|(caller, callee)| caller != callee) {
            callees.entry(caller).or_default().insert(callee);
        }
        Self { callees }
    }

    /// All targets that the load of one reaches, itself only if it is in a circle.
    fn reached<'a>(&'a self, from: &'a TargetName) -> BTreeSet<&'a TargetName> {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(caller) = open.pop() {
            let callees = self.callees.get(caller).into_iter().flatten();
            open.extend(callees.filter(|callee| reached.insert(*callee)));
        }
        reached
    }
}

// === impl Intent ===

impl Intent {
    fn direction(self) -> Option<Direction> {
        match self.wish.cmp(&self.current) {
            std::cmp::Ordering::Greater => Some(Direction::Up),
            std::cmp::Ordering::Less => Some(Direction::Down),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// True while a change in a direction is still to come or, on the way up, to take effect.
    fn is_pending(self, direction: Direction) -> bool {
        let is_starting = self.ready.is_some_and(|ready| ready < self.current);
        self.direction() == Some(direction) || (direction == Direction::Up && is_starting)
    }
}

/// The targets that are about to change, in the order in which to carry that out: what grows, those that are called before
/// those that call them; then what shrinks, the other way round. By name where neither depends on the other.
#[must_use]
pub fn order(calls: &Calls, intents: &BTreeMap<TargetName, Intent>) -> Vec<TargetName> {
    let mut order = Vec::new();
    for direction in [Direction::Up, Direction::Down] {
        let changing: BTreeSet<_> = intents.iter().filter(|(_, one)| one.direction() == Some(direction)).map(|(name, _)| name).collect();
        // Whoever reaches another, and is not reached by it, reaches at least one more than that one does.
        let depth = |name: &TargetName| calls.reached(name).iter().filter(|other| **other != name && changing.contains(**other)).count();
        let mut ranked: Vec<_> = changing.iter().map(|name| (depth(name), (*name).clone())).collect();
        ranked.sort_by(|a, b| if direction == Direction::Up { a.0.cmp(&b.0) } else { b.0.cmp(&a.0) }.then_with(|| a.1.cmp(&b.1)));
        order.extend(ranked.into_iter().map(|(_, name)| name));
    }
    order
}

// === impl Cascade ===

impl Cascade {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Who must wait for whom, as of now. A target waits at most [`PATIENCE`] of its start-ups; then it goes ahead, and does not
    /// wait again before it no longer has a reason to.
    pub fn holds(&mut self, now: Timestamp, calls: &Calls, intents: &BTreeMap<TargetName, Intent>) -> BTreeMap<TargetName, Hold> {
        let reached: BTreeMap<&TargetName, BTreeSet<&TargetName>> = intents.keys().map(|name| (name, calls.reached(name))).collect();
        let reaches = |from: &TargetName, to: &TargetName| reached.get(from).is_some_and(|reached| reached.contains(to));
        let mut waiting = BTreeMap::new();
        let mut holds = BTreeMap::new();
        for (name, intent) in intents {
            let Some(direction) = intent.direction() else { continue };
            let is_first = |other: &TargetName| match direction {
                Direction::Up => reaches(name, other) && !reaches(other, name),
                Direction::Down => reaches(other, name) && !reaches(name, other),
            };
            let Some((behind, _)) = intents.iter().find(|(other, one)| one.is_pending(direction) && is_first(other)) else { continue };
            let before = self.waiting.get(name).filter(|before| before.direction == direction && before.since <= now);
            let since = before.map_or(now, |before| before.since);
            waiting.insert(name.clone(), Waiting { direction, since });
            let until = since + intent.startup.saturating_mul(PATIENCE);
            if now < until {
                holds.insert(name.clone(), Hold { behind: behind.clone(), direction, until });
            }
        }
        self.waiting = waiting;
        holds
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> TargetName {
        TargetName::try_new(text).unwrap()
    }

    fn calls(pairs: &[(&str, &str)]) -> Calls {
        Calls::new(pairs.iter().map(|(caller, callee)| (name(caller), name(callee))))
    }

    fn intent(current: u32, wish: u32) -> Intent {
        Intent { current, ready: Some(current), wish, startup: Duration::from_secs(60) }
    }

    fn intents(list: &[(&str, u32, u32)]) -> BTreeMap<TargetName, Intent> {
        list.iter().map(|(text, current, wish)| (name(text), intent(*current, *wish))).collect()
    }

    fn held(holds: &BTreeMap<TargetName, Hold>) -> Vec<(&str, &str)> {
        holds.iter().map(|(name, hold)| (name.as_str(), hold.behind.as_str())).collect()
    }

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    /// Guarantees: growth is ordered from the callee to the caller, also across services that do not change, and shrinking the
    /// other way round.
    #[test]
    fn the_order_follows_the_calls() {
        let calls = calls(&[("front", "cart"), ("cart", "db"), ("front", "ads")]);
        let texts = |order: Vec<TargetName>| order.into_iter().map(String::from).collect::<Vec<_>>();
        assert_eq!(texts(order(&calls, &intents(&[("front", 2, 4), ("db", 1, 2), ("ads", 1, 3)]))), ["ads", "db", "front"]);
        assert_eq!(texts(order(&calls, &intents(&[("front", 4, 2), ("cart", 3, 2), ("db", 3, 1)]))), ["front", "cart", "db"]);
        assert_eq!(texts(order(&calls, &intents(&[("front", 4, 2), ("cart", 2, 2), ("db", 1, 2)]))), ["db", "front"]);
    }

    /// Guarantees: a caller waits until its callee's new replicas are ready, and not for what does not grow.
    #[test]
    fn a_caller_waits_for_its_callee() {
        let calls = calls(&[("front", "cart"), ("cart", "db")]);
        let mut cascade = Cascade::new();
        let mut now = intents(&[("front", 2, 4), ("cart", 2, 2), ("db", 1, 2)]);
        assert_eq!(held(&cascade.holds(START, &calls, &now)), [("front", "db")]);
        now.insert(name("db"), Intent { ready: Some(1), ..intent(2, 2) });
        assert_eq!(held(&cascade.holds(START + Duration::from_secs(30), &calls, &now)), [("front", "db")], "it starts");
        now.insert(name("db"), intent(2, 2));
        assert!(cascade.holds(START + Duration::from_secs(60), &calls, &now).is_empty(), "it is ready");
        let shrinking = intents(&[("front", 4, 4), ("cart", 3, 1), ("db", 3, 1)]);
        assert_eq!(held(&cascade.holds(START, &calls, &shrinking)), [("db", "cart")]);
    }

    /// Guarantees: nobody waits longer than two start-ups, also when asked again, and may wait anew when the reason had gone.
    #[test]
    fn waiting_is_bounded() {
        let calls = calls(&[("front", "db")]);
        let stuck = intents(&[("front", 2, 4), ("db", 1, 2)]);
        let mut cascade = Cascade::new();
        for (second, count) in [(0, 1), (119, 1), (120, 0), (300, 0)] {
            assert_eq!(cascade.holds(START + Duration::from_secs(second), &calls, &stuck).len(), count, "{second}");
        }
        let done = intents(&[("front", 2, 4), ("db", 2, 2)]);
        assert!(cascade.holds(START + Duration::from_secs(310), &calls, &done).is_empty());
        assert_eq!(cascade.holds(START + Duration::from_secs(320), &calls, &stuck).len(), 1);
        assert_eq!(cascade.holds(START, &calls, &stuck).len(), 1, "a clock that went back does not end the wait early");
    }

    proptest! {
        /// Guarantees: in any graph, also with circles, somebody who is about to change waits for nobody.
        #[test]
        fn there_is_no_deadlock(
            pairs in prop::collection::vec((0_u8..8, 0_u8..8), 0..20),
            changes in prop::collection::vec((0_u32..3, 0_u32..3), 1..8),
        ) {
            let named = |index: u8| name(&format!("t{index}"));
            let calls = Calls::new(pairs.into_iter().map(|(a, b)| (named(a), named(b))));
            let all: BTreeMap<_, _> = (0_u8..).zip(&changes).map(|(i, (current, wish))| (named(i), intent(*current, *wish))).collect();
            let holds = Cascade::new().holds(START, &calls, &all);
            let changing = all.values().filter(|one| one.direction().is_some()).count();
            prop_assert!(changing == 0 || holds.len() < changing);
            let order = order(&calls, &all);
            prop_assert_eq!(order.len(), changing);
            for (waiting, hold) in &holds {
                let place = |name: &TargetName| order.iter().position(|one| one == name);
                prop_assert!(place(&hold.behind) < place(waiting), "{} before {}", hold.behind, waiting);
            }
        }
    }
}
