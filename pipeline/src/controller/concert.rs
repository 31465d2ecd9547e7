//! Targets that depend on each other: those that share a budget, and those whose services call each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracescale_core::budget::{Budget, BudgetShare, Member, tightest};
use tracescale_core::cascade::{Calls, Cascade, Hold, Intent, order};
use tracescale_core::target::TargetName;
use tracescale_core::time::Timestamp;
use tracescale_queries::Emission;

use super::services::Services;

/// The shipped view that says who calls whom.
pub(super) const VIEW: &str = "calls";
const CLIENT: [&str; 2] = ["client_service", "client_namespace"];
const SERVER: [&str; 2] = ["server_service", "server_namespace"];
/// Pairs of targets that are told apart; what calls more is not ordered.
const PAIRS_MAX: usize = 10_000;
/// Targets that change at the same time and are put in order; when there are more, nobody waits.
const CHANGING_MAX: usize = 1000;

/// Who shares what with whom, and who calls whom.
#[derive(Debug, Default)]
pub(super) struct Concert {
    budgets: Vec<Budget>,
    calls: Calls,
    /// Targets that call others, or are called.
    linked: BTreeSet<TargetName>,
    cascade: Cascade,
}

/// Where a target stands and where it would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Replicas that it is asked to have, or that an action under way asks for if that is more.
    pub(super) current: u32,
    pub(super) ready: Option<u32>,
    /// Its min.
    pub(super) least: u32,
    /// Replicas that it would have if no other stood in its way; its current ones where nothing is carried out.
    pub(super) wish: u32,
    pub(super) startup: Duration,
}

/// What others leave to the targets that are decided about.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// The targets in the order in which their changes are to be carried out.
    pub(super) order: Vec<TargetName>,
    pub(super) holds: BTreeMap<TargetName, Hold>,
    pub(super) shares: BTreeMap<TargetName, BudgetShare>,
}

// === impl Concert ===

impl Concert {
    /// The budgets as the documents now have them.
    pub(super) fn load(&mut self, budgets: Vec<Budget>) {
        self.budgets = budgets;
    }

    /// Reads who calls whom: the newest final window says all, for the engine keeps callers that are silent for a while.
    pub(super) fn learn(&mut self, emissions: &[Emission], services: &Services<'_>) {
        let newest = emissions.iter().filter(|emission| emission.is_final && emission.view == VIEW).max_by_key(|e| e.window_end);
        let Some(rows) = newest.map(|emission| &emission.rows) else { return };
        let mut pairs = BTreeSet::new();
        for row in 0..rows.num_rows() {
            for client in services.of(rows, CLIENT, row) {
                let servers = services.of(rows, SERVER, row).filter(|server| server.name != client.name);
                pairs.extend(servers.map(|server| (client.name.clone(), server.name.clone())));
            }
            if pairs.len() >= PAIRS_MAX {
                break;
            }
        }
        self.linked = pairs.iter().flat_map(|(client, server)| [client.clone(), server.clone()]).collect();
        self.calls = Calls::new(pairs);
    }

    /// True when others may stand in the way of a target.
    pub(super) fn concerns(&self, target: &TargetName) -> bool {
        self.linked.contains(target) || self.budgets.iter().any(|budget| budget.covers(target))
    }

    /// What others leave to `targets`, all of whose wishes are known.
    pub(super) fn arrange(&mut self, now: Timestamp, targets: &[TargetName], standings: &BTreeMap<TargetName, Standing>) -> Together {
        let is_moving = |one: &Standing| one.wish != one.current || one.ready.is_some_and(|ready| ready < one.current);
        let intents: BTreeMap<TargetName, Intent> = standings
            .iter()
            .filter(|(name, one)| is_moving(one) && self.linked.contains(*name))
            .map(|(name, one)| (name.clone(), one.intent()))
            .collect();
        let mut together = Together { order: targets.to_vec(), ..Together::default() };
        // What must wait until others are ready comes after them also where nobody has to wait.
        if intents.len() <= CHANGING_MAX {
            let place: BTreeMap<_, _> = order(&self.calls, &intents).into_iter().zip(0_usize..).collect();
            together.order.sort_by_key(|name| place.get(name).copied().unwrap_or(usize::MAX));
            together.holds = self.cascade.holds(now, &self.calls, &intents);
        }
        let members: BTreeMap<TargetName, Member> = if self.budgets.is_empty() {
            BTreeMap::new()
        } else {
            standings.iter().map(|(name, one)| (name.clone(), one.member())).collect()
        };
        let growing = targets.iter().filter(|name| standings.get(*name).is_some_and(|one| one.wish > one.current));
        let shares = growing.filter_map(|name| Some((name.clone(), tightest(&self.budgets, &members, name)?)));
        together.shares = shares.collect();
        together
    }
}

// === impl Standing ===

impl Standing {
    fn intent(&self) -> Intent {
        Intent { current: self.current, ready: self.ready, wish: self.wish, startup: self.startup }
    }

    fn member(&self) -> Member {
        Member { current: self.current, least: self.least, wish: self.wish }
    }
}
