//! Replicas of the fluid engine, in groups that were created and became ready together.

use tracescale_core::time::Timestamp;

use crate::number::seconds;
use crate::plant::{Phase, ReplicaGroup};

/// All replicas of a service, oldest first.
#[derive(Debug)]
pub(super) struct Cohorts {
    groups: Vec<Cohort>,
    created: u64,
}

/// Replicas that are alike.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    first: u64,
    count: u32,
    phase: Phase,
    created_at: i64,
    /// When it becomes, or became, ready.
    ready_at: i64,
    /// When its draining ends.
    ends_at: i64,
}

// === impl Cohorts ===

impl Cohorts {
    /// Replicas that are ready from the start.
    pub(super) fn new(now: i64, count: u32) -> Self {
        let mut cohorts = Self { groups: Vec::new(), created: 0 };
        for _ in 0..count {
            cohorts.create(now, now);
        }
        cohorts.pass(now);
        cohorts
    }

    /// Number of replicas ever created.
    pub(super) fn created(&self) -> u64 {
        self.created
    }

    pub(super) fn create(&mut self, now: i64, ready_at: i64) {
        let first = self.created;
        self.created += 1;
        if let Some(last) = self.groups.last_mut() {
            let follows = last.first + u64::from(last.count) == first;
            if follows && last.phase == Phase::Starting && last.created_at == now && last.ready_at == ready_at {
                last.count += 1;
                return;
            }
        }
        self.groups.push(Cohort { first, count: 1, phase: Phase::Starting, created_at: now, ready_at, ends_at: i64::MAX });
    }

    /// Removes replicas: those that have not started first, then the youngest; ready ones drain until `ends_at`.
    pub(super) fn remove(&mut self, count: u32, now: i64, ends_at: i64) {
        let mut left = count;
        while left > 0 {
            let youngest = |phase| self.groups.iter().rposition(|group| group.phase == phase);
            let Some(place) = youngest(Phase::Starting).or_else(|| youngest(Phase::Ready)) else { return };
            let group = &mut self.groups[place];
            let taken = left.min(group.count);
            left -= taken;
            group.count -= taken;
            let mut rest = Cohort { first: group.first + u64::from(group.count), count: taken, phase: Phase::Draining, ends_at, ..*group };
            if group.phase == Phase::Starting {
                rest.ends_at = now;
            }
            if group.count == 0 {
                self.groups.remove(place);
                self.groups.insert(place, rest);
            } else {
                self.groups.insert(place + 1, rest);
            }
        }
    }

    /// Lets time pass. Tells whether a replica became ready.
    pub(super) fn pass(&mut self, now: i64) -> bool {
        let mut changed = false;
        for group in &mut self.groups {
            if group.phase == Phase::Starting && group.ready_at <= now {
                group.phase = Phase::Ready;
                changed = true;
            }
        }
        self.groups.retain(|group| group.phase != Phase::Draining || group.ends_at > now);
        changed
    }

    /// When the next replica becomes ready.
    pub(super) fn next_ready(&self, now: i64) -> Option<i64> {
        self.groups.iter().filter(|group| group.phase == Phase::Starting).map(|group| group.ready_at.max(now)).min()
    }

    pub(super) fn count(&self, phase: Phase) -> u32 {
        self.groups.iter().filter(|group| group.phase == phase).map(|group| group.count).sum()
    }

    /// Replica seconds of readiness within a step.
    pub(super) fn ready_seconds(&self, from: i64, until: i64) -> f64 {
        let overlap = |group: &Cohort| seconds((until - group.ready_at.max(from)).max(0)) * f64::from(group.count);
        self.groups.iter().filter(|group| group.phase != Phase::Draining).map(overlap).sum()
    }

    /// Replica seconds of existence within a step.
    pub(super) fn billed_seconds(&self, from: i64, until: i64) -> f64 {
        let overlap = |group: &Cohort| seconds((until.min(group.ends_at) - from).max(0)) * f64::from(group.count);
        self.groups.iter().map(overlap).sum()
    }

    pub(super) fn observe(&self, cpu: f64, concurrency: f64, into: &mut Vec<ReplicaGroup>) {
        into.clear();
        into.extend(self.groups.iter().map(|group| {
            let serves = group.phase == Phase::Ready;
            ReplicaGroup {
                first: group.first,
                count: group.count,
                phase: group.phase,
                created_at: Timestamp::from_nanos(group.created_at),
                ready_at: (group.phase != Phase::Starting).then(|| Timestamp::from_nanos(group.ready_at)),
                cpu: if serves { cpu } else { 0.0 },
                concurrency: if serves { concurrency } else { 0.0 },
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Guarantees: groups start, split and drain as single replicas would, and time is integrated exactly.
    #[test]
    fn life_of_groups() {
        let mut cohorts = Cohorts::new(0, 3);
        cohorts.create(0, 10 * SECOND);
        cohorts.create(0, 10 * SECOND);
        assert_eq!((cohorts.groups.len(), cohorts.count(Phase::Ready), cohorts.count(Phase::Starting)), (2, 3, 2));
        assert!((cohorts.ready_seconds(5 * SECOND, 15 * SECOND) - 40.0).abs() < 1e-9);
        assert_eq!(cohorts.next_ready(0), Some(10 * SECOND));
        cohorts.remove(3, 5 * SECOND, 8 * SECOND);
        assert_eq!((cohorts.count(Phase::Ready), cohorts.count(Phase::Starting), cohorts.count(Phase::Draining)), (2, 0, 3));
        assert!((cohorts.billed_seconds(5 * SECOND, 15 * SECOND) - 23.0).abs() < 1e-9);
        assert!(!cohorts.pass(8 * SECOND));
        assert_eq!(cohorts.groups.len(), 1);
    }
}
