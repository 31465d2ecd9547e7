//! Window arithmetic: which windows hold a time, and the panes that windows of one size and slide share.
//!
//! A window is `[start, end)`. Windows start at multiples of the slide since the Unix epoch. A pane is the longest
//! interval that no window border cuts: gcd(size, slide) wide, so every window is a whole number of panes.

use std::time::Duration;

use crate::time::{Timestamp, nanos};

/// Why a window cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Size or slide is zero.
    #[error("a window's size and slide must be longer than zero")]
    Zero,
    /// The slide is longer than the size: times between two windows would be lost.
    #[error("a window's slide cannot be longer than its size")]
    Gap,
    /// One time would be in too many windows, or a window in too many panes.
    #[error("a window has at most {} panes", Window::MAX_PANES)]
    TooFine,
}

/// A hopping window (`slide < size`) or a tumbling one (`slide == size`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    size: i64,
    slide: i64,
}

/// One interval `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The first instant in the interval.
    pub start: Timestamp,
    /// The first instant after the interval.
    pub end: Timestamp,
}

// === impl Window ===

impl Window {
    /// The most panes in one window; bounds the work of one emission.
    pub const MAX_PANES: i64 = 100_000;

    /// A window of `size`, of which one starts each `slide`.
    ///
    /// # Errors
    /// When one of them is zero, the slide is the longer one, or the panes would be too many.
    pub fn new(size: Duration, slide: Duration) -> Result<Self, WindowError> {
        let window = Self { size: nanos(size), slide: nanos(slide) };
        if window.size == 0 || window.slide == 0 {
            return Err(WindowError::Zero);
        }
        if window.slide > window.size {
            return Err(WindowError::Gap);
        }
        if window.size / gcd(window.size, window.slide) > Self::MAX_PANES {
            return Err(WindowError::TooFine);
        }
        Ok(window)
    }

    /// Length of a window.
    #[must_use]
    pub fn size(&self) -> Duration {
        duration(self.size)
    }

    /// Time between the starts of two windows.
    #[must_use]
    pub fn slide(&self) -> Duration {
        duration(self.slide)
    }

    /// Width of a pane: gcd(size, slide).
    #[must_use]
    pub fn pane_width(&self) -> Duration {
        duration(gcd(self.size, self.slide))
    }

    /// Panes in one window.
    #[must_use]
    pub fn panes_per_window(&self) -> usize {
        usize::try_from(self.size / gcd(self.size, self.slide)).unwrap_or(usize::MAX)
    }

    /// The pane that holds a time.
    #[must_use]
    pub fn pane_of(&self, time: Timestamp) -> Interval {
        let start = time.floor(self.pane_width());
        Interval { start, end: start + self.pane_width() }
    }

    /// The windows that hold a time, oldest first.
    pub fn windows_of(&self, time: Timestamp) -> impl Iterator<Item = Interval> + use<> {
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        let time = i128::from(time.as_nanos());
        let newest = time - time.rem_euclid(slide);
        // The oldest window that still holds the time starts after `time - size`.
        let count = (newest - (time - size) + slide - 1) / slide;
        (0..count).rev().map(move |back| interval(newest - back * slide, size))
    }

    /// The windows that end in `(after, until]`, oldest first: what becomes due while a clock moves from `after` to `until`.
    pub fn ending_in(&self, after: Timestamp, until: Timestamp) -> impl Iterator<Item = Interval> + use<> {
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        // Ends are congruent to `size` modulo `slide`.
        let after = i128::from(after.as_nanos());
        let first = after + slide - (after - size).rem_euclid(slide);
        let count = (i128::from(until.as_nanos()) - first).div_euclid(slide) + 1;
        (0..count.max(0)).map(move |step| interval(first + step * slide - size, size))
    }

    /// The first window end after a time.
    #[must_use]
    pub fn next_end(&self, after: Timestamp) -> Timestamp {
        let (size, slide) = (i128::from(self.size), i128::from(self.slide));
        let after = i128::from(after.as_nanos());
        saturated(after + slide - (after - size).rem_euclid(slide))
    }

    /// The starts of the panes of a window that starts at `start`, oldest first.
    pub fn panes_of(&self, start: Timestamp) -> impl Iterator<Item = Timestamp> + use<> {
        let width = i128::from(gcd(self.size, self.slide));
        let count = i128::from(self.size) / width;
        let start = i128::from(start.as_nanos());
        (0..count).map(move |step| saturated(start + step * width))
    }
}

// === impl Interval ===

impl Interval {
    /// True when the time is in `[start, end)`.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start <= time && time < self.end
    }
}

/// Greatest common divisor of two positive numbers.
#[must_use]
pub fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn duration(nanos: i64) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn saturated(nanos: i128) -> Timestamp {
    Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
}

fn interval(start: i128, size: i128) -> Interval {
    Interval { start: saturated(start), end: saturated(start + size) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn window(size: u64, slide: u64) -> Window {
        Window::new(Duration::from_secs(size), Duration::from_secs(slide)).unwrap()
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    /// Guarantees: a time on a border belongs to the window that starts there and to none that ends there.
    #[test]
    fn windows_are_half_open() {
        let starts: Vec<_> = window(60, 20).windows_of(at(60)).map(|w| w.start.as_nanos() / 1_000_000_000).collect();
        assert_eq!(starts, [20, 40, 60]);
        let tumbling: Vec<_> = window(60, 60).windows_of(at(-1)).map(|w| (w.start, w.end)).collect();
        assert_eq!(tumbling, [(at(-60), at(0))]);
    }

    /// Guarantees: panes are the greatest common divisor wide, also when the slide does not divide the size.
    #[test]
    fn panes_are_shared_by_all_windows() {
        let odd = window(10, 4);
        assert_eq!(odd.pane_width(), Duration::from_secs(2));
        assert_eq!(odd.panes_per_window(), 5);
        assert_eq!(odd.panes_of(at(4)).collect::<Vec<_>>(), [at(4), at(6), at(8), at(10), at(12)]);
        assert_eq!(odd.next_end(at(10)), at(14));
        assert_eq!(odd.ending_in(at(10), at(22)).map(|w| w.end).collect::<Vec<_>>(), [at(14), at(18), at(22)]);
    }

    /// Guarantees: sizes that cannot work are refused, and extreme clocks neither panic nor wrap.
    #[test]
    fn extremes_are_refused_or_saturate() {
        assert_eq!(Window::new(Duration::ZERO, Duration::from_secs(1)), Err(WindowError::Zero));
        assert_eq!(Window::new(Duration::from_secs(1), Duration::from_secs(2)), Err(WindowError::Gap));
        assert_eq!(Window::new(Duration::from_secs(3600), Duration::from_nanos(7)), Err(WindowError::TooFine));
        let window = window(60, 5);
        assert_eq!(window.windows_of(Timestamp::MAX).count(), 12);
        assert_eq!(window.windows_of(Timestamp::MIN).count(), 12);
        assert_eq!(window.ending_in(Timestamp::MAX, Timestamp::MIN).count(), 0);
    }

    proptest! {
        /// Guarantees: the windows of a time are exactly the aligned intervals that hold it, and each is made of whole panes.
        #[test]
        fn windows_of_a_time_hold_it(size in 1_u64..200, slide in 1_u64..200, nanos in -10_i64.pow(15)..10_i64.pow(15)) {
            prop_assume!(slide <= size);
            let window = window(size, slide);
            let time = Timestamp::from_nanos(nanos);
            let found: Vec<_> = window.windows_of(time).collect();
            prop_assert!(!found.is_empty());
            let oldest = found[0].start;
            let newest = found[found.len() - 1].start;
            for interval in &found {
                prop_assert!(interval.contains(time));
                prop_assert_eq!(interval.start.as_nanos().rem_euclid(window.slide), 0);
                let panes: Vec<_> = window.panes_of(interval.start).collect();
                prop_assert_eq!(panes.len(), window.panes_per_window());
                prop_assert!(panes.contains(&window.pane_of(time).start));
                prop_assert_eq!(panes[panes.len() - 1] + window.pane_width(), interval.end);
            }
            let before = Interval { start: oldest - window.slide(), end: oldest - window.slide() + window.size() };
            let after = Interval { start: newest + window.slide(), end: newest + window.slide() + window.size() };
            prop_assert!(!before.contains(time) && !after.contains(time));
        }

        /// Guarantees: a clock that moves in steps of any size finds every window end once, in order.
        #[test]
        fn ends_are_found_once(size in 1_u64..50, slide in 1_u64..50, steps in prop::collection::vec(0_i64..90, 1..20)) {
            prop_assume!(slide <= size);
            let window = window(size, slide);
            let mut clock = at(-100);
            let mut ends = Vec::new();
            let begin = clock;
            for step in steps {
                let next = clock + Duration::from_secs(step.unsigned_abs());
                ends.extend(window.ending_in(clock, next).map(|w| w.end));
                clock = next;
            }
            prop_assert_eq!(ends, window.ending_in(begin, clock).map(|w| w.end).collect::<Vec<_>>());
            prop_assert!(window.next_end(clock) > clock);
        }
    }
}
