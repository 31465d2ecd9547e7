//! What a model keeps of each service: bounded, learned from windows that do not overlap, forgotten after a silence.

use std::collections::BTreeMap;
use std::time::Duration;

use tracescale_core::time::{Timestamp, nanos};

use super::rows::ServiceKey;

/// Services that a model keeps; further ones are not judged. A forecaster takes some hundred kilobytes, a planner 110.
pub(super) const SERVICES_MAX: usize = 2000;

/// Time between windows that are learned from: windows of a minute that do not overlap.
pub(super) const APART: Duration = Duration::from_secs(60);
/// Share of a window that must have been covered by its senders to be learned from: what is missing would pass for a quiet time.
pub(super) const COMPLETE: f64 = 0.9;
/// What ends so much later than a window was not before it: the clock stepped back. Late rows change younger windows than that.
pub(super) const AHEAD: Duration = Duration::from_secs(15 * 60);

/// The newest minute that was taken from another view.
#[derive(Debug, Default)]
pub(super) struct Newest(Option<Timestamp>);

/// Something for each service.
#[derive(Debug)]
pub(super) struct Memory<T> {
    services: BTreeMap<ServiceKey, Kept<T>>,
    most: usize,
    apart: Duration,
    forget: Duration,
}

#[derive(Debug)]
struct Kept<T> {
    value: T,
    learned: Timestamp,
}

// === impl Newest ===

impl Newest {
    /// Whether the minute that ends at `end` is news to a window: it is newer than the last one, or the clock stepped back since.
    pub(super) fn is_next(&mut self, end: Timestamp, window: Timestamp) -> bool {
        let is_next = self.0.is_none_or(|last| end > last || last.since(window) >= AHEAD);
        if is_next {
            self.0 = Some(end);
        }
        is_next
    }
}

// === impl Memory ===

impl<T> Memory<T> {
    /// Learns from windows whose ends are `apart` at least, and forgets services that were silent for longer than `forget`.
    pub(super) fn new(apart: Duration, forget: Duration) -> Self {
        Self { services: BTreeMap::new(), most: SERVICES_MAX, apart, forget }
    }

    /// The same for so many services at most.
    #[cfg(test)]
    pub(super) fn of_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// The service to learn the window that ends then into; made when it is new. `None` when the window overlaps the last one
    /// that was learned from, when there are too many services, and when nothing can be made.
    pub(super) fn due(&mut self, key: &ServiceKey, end: Timestamp, make: impl FnOnce() -> Option<T>) -> Option<&mut T> {
        if !self.services.contains_key(key) {
            let value = Some(()).filter(|()| self.services.len() < self.most).and_then(|()| make())?;
            return Some(&mut self.services.entry(key.clone()).or_insert(Kept { value, learned: end }).value);
        }
        let kept = self.services.get_mut(key)?;
        // After the clock stepped back windows are older than the last one, and still count.
        let between = end.as_nanos().abs_diff(kept.learned.as_nanos());
        if between == 0 || between < nanos(self.apart).unsigned_abs() {
            return None;
        }
        kept.learned = end;
        Some(&mut kept.value)
    }

    /// Takes what was known at a time in place of what is known.
    pub(super) fn put(&mut self, key: ServiceKey, end: Timestamp, value: T) {
        if self.services.len() < self.most || self.services.contains_key(&key) {
            let _ = self.services.insert(key, Kept { value, learned: end });
        }
    }

    pub(super) fn get(&self, key: &ServiceKey) -> Option<&T> {
        self.services.get(key).map(|kept| &kept.value)
    }

    pub(super) fn get_mut(&mut self, key: &ServiceKey) -> Option<&mut T> {
        self.services.get_mut(key).map(|kept| &mut kept.value)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&ServiceKey, &T) -> bool) {
        self.services.retain(|key, kept| keep(key, &kept.value));
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.services.values_mut().map(|kept| &mut kept.value)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&ServiceKey, &mut T)> {
        self.services.iter_mut().map(|(key, kept)| (key, &mut kept.value))
    }

    /// Forgets those that have been silent for long as of a time.
    pub(super) fn forget(&mut self, end: Timestamp) {
        let horizon = end - self.forget;
        self.services.retain(|_, kept| kept.learned >= horizon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn key(name: &str) -> ServiceKey {
        ServiceKey { name: name.to_owned(), namespace: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + second)
    }

    /// Guarantees: overlapping windows are learned from once, also when the clock steps back.
    #[test]
    fn windows_do_not_overlap() {
        let mut memory = Memory::new(MINUTE, MINUTE * 60);
        let learned: Vec<i64> = [0, 5, 55, 60, 60, 119, 120, 30, 65]
            .into_iter()
            .filter(|second| memory.due(&key("a"), at(*second), || Some(())).is_some())
            .collect();
        assert_eq!(learned, [0, 60, 120, 30]);
        let mut any = Memory::new(Duration::ZERO, MINUTE);
        assert!(any.due(&key("a"), at(0), || Some(())).is_some() && any.due(&key("a"), at(0), || Some(())).is_none());
    }

    /// Guarantees: a minute is taken once and no older one after it, and a clock that steps back does not end that.
    #[test]
    fn minutes_are_news_once() {
        let mut newest = Newest::default();
        let mut is_next = |(end, window)| newest.is_next(at(end), at(window));
        assert_eq!([(0, 5), (0, 10), (60, 70), (0, 55)].map(&mut is_next), [true, false, true, false]);
        assert_eq!([(7200, 7210), (3600, 3610), (3600, 3615), (3660, 3670)].map(&mut is_next), [true, true, false, true]);
    }

    /// Guarantees: no more services than allowed are kept, silent ones are forgotten, and what cannot be made is not.
    #[test]
    fn memory_is_bounded() {
        let mut memory = Memory::new(MINUTE, MINUTE * 10).of_most(2);
        assert!(memory.due(&key("none"), at(0), || None).is_none() && memory.get(&key("none")).is_none());
        assert!(memory.due(&key("a"), at(0), || Some(1)).is_some());
        assert!(memory.due(&key("b"), at(300), || Some(2)).is_some());
        assert!(memory.due(&key("c"), at(300), || Some(3)).is_none());
        memory.put(key("c"), at(300), 3);
        assert_eq!((memory.get(&key("b")), memory.get(&key("c"))), (Some(&2), None));
        memory.forget(at(601));
        assert_eq!((memory.get(&key("a")), memory.get(&key("b"))), (None, Some(&2)));
    }
}
