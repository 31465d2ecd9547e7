//! The inside of one replica: processor sharing in virtual time, or slots with a queue.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use crate::number::{index, nanos, nanos_up, seconds};
use crate::world::Discipline;

/// Work that is left and counts as none, in seconds: less than the clock can tell apart.
const NOTHING: f64 = 1e-9;

/// Requests of a replica.
#[derive(Debug)]
pub(super) enum Queue {
    /// All at once.
    Sharing(Sharing),
    /// In order.
    Slots(Slots),
}

/// Processor sharing. Every request gets the same service, so one clock of attained service orders all departures.
#[derive(Debug)]
pub(super) struct Sharing {
    cores: u32,
    /// Service that a request present since the start of the busy period has attained, in seconds.
    attained: f64,
    /// When `attained` was brought up to date.
    at: i64,
    jobs: BinaryHeap<Reverse<Tagged>>,
    sequence: u64,
}

/// A request and the attained service at which it is done.
#[derive(Debug)]
pub(super) struct Tagged {
    tag: f64,
    sequence: u64,
    visit: u32,
}

/// Slots and the queue before them.
#[derive(Debug)]
pub(super) struct Slots {
    slots: u32,
    capacity: Option<u32>,
    /// Requests in service: when each is done, an order for ties, which it is.
    running: BinaryHeap<Reverse<(i64, u64, u32)>>,
    waiting: VecDeque<Waiting>,
    sequence: u64,
}

/// A request that waits for a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) visit: u32,
    pub(super) work: f64,
}

/// What became of a request that came to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is being served.
    Started,
    /// It waits.
    Queued,
    /// There was no room.
    Rejected,
}

// === impl Queue ===

impl Queue {
    pub(super) fn new(discipline: Discipline, now: i64) -> Self {
        match discipline {
            Discipline::ProcessorSharing { cores } => {
                Self::Sharing(Sharing { cores, attained: 0.0, at: now, jobs: BinaryHeap::new(), sequence: 0 })
            }
            Discipline::FirstComeFirstServed { slots, capacity } => {
                Self::Slots(Slots { slots, capacity, running: BinaryHeap::new(), waiting: VecDeque::new(), sequence: 0 })
            }
        }
    }

    /// Requests inside.
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Sharing(sharing) => index(sharing.jobs.len()),
            Self::Slots(slots) => index(slots.running.len() + slots.waiting.len()),
        }
    }

    /// Busy servers.
    pub(super) fn busy(&self) -> u32 {
        match self {
            Self::Sharing(sharing) => index(sharing.jobs.len()).min(sharing.cores),
            Self::Slots(slots) => index(slots.running.len()),
        }
    }

    pub(super) fn admit(&mut self, now: i64, job: Waiting) -> Admission {
        match self {
            Self::Sharing(sharing) => {
                sharing.advance(now);
                sharing.sequence += 1;
                let tag = sharing.attained + job.work;
                sharing.jobs.push(Reverse(Tagged { tag, sequence: sharing.sequence, visit: job.visit }));
                Admission::Started
            }
            Self::Slots(slots) => slots.admit(now, job),
        }
    }

    /// When the next request is done if nothing else comes.
    pub(super) fn next_due(&self, now: i64) -> Option<i64> {
        match self {
            Self::Sharing(sharing) => {
                let Reverse(first) = sharing.jobs.peek()?;
                let left = (first.tag - sharing.attained).max(0.0) / sharing.speed();
                Some((sharing.at + nanos_up(left)).max(now))
            }
            Self::Slots(slots) => slots.running.peek().map(|Reverse((done, ..))| *done),
        }
    }

    /// Takes out one request that is done; with it the request that got its slot, if any.
    pub(super) fn finish(&mut self, now: i64) -> Option<(u32, Option<u32>)> {
        match self {
            Self::Sharing(sharing) => {
                sharing.advance(now);
                let Reverse(first) = sharing.jobs.peek()?;
                if first.tag - sharing.attained > NOTHING {
                    return None;
                }
                let Reverse(done) = sharing.jobs.pop()?;
                if sharing.jobs.is_empty() {
                    // Starts the next busy period at zero, where the clock is finest.
                    sharing.attained = 0.0;
                }
                Some((done.visit, None))
            }
            Self::Slots(slots) => slots.finish(now),
        }
    }

    /// Takes out everything, in no particular but repeatable order.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        match self {
            Self::Sharing(sharing) => {
                std::mem::take(&mut sharing.jobs).into_sorted_vec().into_iter().map(|Reverse(job)| job.visit).collect()
            }
            Self::Slots(slots) => {
                let running = std::mem::take(&mut slots.running).into_sorted_vec().into_iter().map(|Reverse((.., visit))| visit);
                running.chain(std::mem::take(&mut slots.waiting).into_iter().map(|job| job.visit)).collect()
            }
        }
    }
}

// === impl Sharing ===

impl Sharing {
    /// Speed of each request, relative to being alone.
    fn speed(&self) -> f64 {
        (f64::from(self.cores) / f64::from(index(self.jobs.len()).max(1))).min(1.0)
    }

    fn advance(&mut self, now: i64) {
        if !self.jobs.is_empty() {
            self.attained += seconds(now - self.at) * self.speed();
        }
        self.at = now;
    }
}

// === impl Slots ===

impl Slots {
    fn admit(&mut self, now: i64, job: Waiting) -> Admission {
        if index(self.running.len()) < self.slots {
            self.start(now, job);
            return Admission::Started;
        }
        if self.capacity.is_some_and(|capacity| index(self.running.len() + self.waiting.len()) >= capacity) {
            return Admission::Rejected;
        }
        self.waiting.push_back(job);
        Admission::Queued
    }

    fn start(&mut self, now: i64, job: Waiting) {
        self.sequence += 1;
        self.running.push(Reverse((now + nanos(job.work), self.sequence, job.visit)));
    }

    fn finish(&mut self, now: i64) -> Option<(u32, Option<u32>)> {
        let Reverse((done, _, visit)) = self.running.peek().copied()?;
        if done > now {
            return None;
        }
        self.running.pop();
        let next = self.waiting.pop_front();
        if let Some(next) = next {
            self.start(now, next);
        }
        Some((visit, next.map(|next| next.visit)))
    }
}

// === impl Tagged ===

impl Ord for Tagged {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tag.total_cmp(&other.tag).then(self.sequence.cmp(&other.sequence))
    }
}

impl PartialOrd for Tagged {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Tagged {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Tagged {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn run(discipline: Discipline, arrivals: &[(i64, f64)]) -> Vec<(i64, u32)> {
        let mut queue = Queue::new(discipline, 0);
        let (mut left, mut done) = (arrivals.iter().enumerate().peekable(), Vec::new());
        let mut now = 0;
        loop {
            let due = queue.next_due(now);
            match left.peek().copied() {
                Some((visit, (at, work))) if due.is_none_or(|due| *at < due) => {
                    now = *at;
                    queue.admit(now, Waiting { visit: index(visit), work: *work });
                    left.next();
                }
                _ => {
                    let Some(due) = due else { return done };
                    now = due;
                    while let Some((visit, _)) = queue.finish(now) {
                        done.push((now, visit));
                    }
                }
            }
        }
    }

    /// Guarantees: requests that share a core slow each other down; computed by hand.
    #[test]
    fn sharing_by_hand() {
        let one = Discipline::ProcessorSharing { cores: 1 };
        // Alone for 1 s, then both at half speed: the short one is done at 1 + 2·1, the long one at 4.
        assert_eq!(run(one, &[(0, 3.0), (SECOND, 1.0)]), [(3 * SECOND, 1), (4 * SECOND, 0)]);
        let two = Discipline::ProcessorSharing { cores: 2 };
        // Three on two cores run at 2/3: 1.5 s each.
        assert_eq!(run(two, &[(0, 1.0), (0, 1.0), (0, 1.0)]).iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1_500_000_000; 3]);
    }

    /// Guarantees: slots serve in order of arrival; what finds no room is rejected.
    #[test]
    fn slots_by_hand() {
        let one = Discipline::FirstComeFirstServed { slots: 1, capacity: None };
        assert_eq!(run(one, &[(0, 3.0), (SECOND, 1.0)]), [(3 * SECOND, 0), (4 * SECOND, 1)]);
        let mut queue = Queue::new(Discipline::FirstComeFirstServed { slots: 1, capacity: Some(2) }, 0);
        let outcomes = [0, 1, 2].map(|visit| queue.admit(0, Waiting { visit, work: 1.0 }));
        assert_eq!(outcomes, [Admission::Started, Admission::Queued, Admission::Rejected]);
        assert_eq!((queue.len(), queue.busy()), (2, 1));
        assert_eq!(queue.finish(SECOND), Some((0, Some(1))));
        assert_eq!(queue.clear(), [1]);
    }
}
