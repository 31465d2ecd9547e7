//! Which days are like which: yesterday and last week, but for holidays the last holiday and Sundays.

use super::history::DAYS_KEPT;

/// Seconds of a day.
pub(super) const DAY: i64 = 86_400;
/// Most days that are like another.
pub(super) const ALIKE_MAX: usize = 7;
/// How many days back the likeness reaches: as far as anything is kept.
const REACH: i64 = DAYS_KEPT;

/// Distances to earlier days, nearest first, in days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Distances {
    days: [i64; ALIKE_MAX],
    number: usize,
}

/// Days that are forecast and learnt apart from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calendar {
    /// Days since the epoch, sorted.
    holidays: Vec<i64>,
}

// === impl Distances ===

impl Distances {
    fn push(&mut self, distance: i64) {
        if let Some(free) = self.days.get_mut(self.number) {
            *free = distance;
            self.number += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[i64] {
        &self.days[..self.number]
    }
}

// === impl Calendar ===

impl Calendar {
    pub(super) fn new(mut holidays: Vec<i64>) -> Self {
        holidays.sort_unstable();
        holidays.dedup();
        Self { holidays }
    }

    pub(super) fn is_holiday(&self, day: i64) -> bool {
        !self.holidays.is_empty() && self.holidays.binary_search(&day).is_ok()
    }

    /// Days like `day` that are at least `nearest` days before it: the last seven ordinary days, or for a holiday the last
    /// holidays and then the last Sundays.
    pub(super) fn daily(&self, day: i64, nearest: i64) -> Distances {
        if self.is_holiday(day) { self.festive(day, nearest) } else { self.ordinary(day, nearest, 1, ALIKE_MAX) }
    }

    /// Days like `day` on the same weekday, up to four; for a holiday the last holidays and Sundays.
    pub(super) fn weekly(&self, day: i64, nearest: i64) -> Distances {
        if self.is_holiday(day) {
            return self.festive(day, nearest);
        }
        self.ordinary(day, (nearest + 6).div_euclid(7) * 7, 7, 4)
    }

    fn ordinary(&self, day: i64, nearest: i64, stride: i64, most: usize) -> Distances {
        let mut found = Distances::default();
        let mut distance = nearest;
        while distance <= REACH && found.number < most {
            if !self.is_holiday(day - distance) {
                found.push(distance);
            }
            distance += stride;
        }
        found
    }

    fn festive(&self, day: i64, nearest: i64) -> Distances {
        let mut found = Distances::default();
        let reach = nearest..=REACH;
        reach.clone().filter(|distance| self.is_holiday(day - distance)).take(2).for_each(|distance| found.push(distance));
        let sunday = |distance: &i64| is_sunday(day - distance) && !self.is_holiday(day - distance);
        reach.filter(sunday).take(2).for_each(|distance| found.push(distance));
        found
    }
}

/// The epoch began on a Thursday.
fn is_sunday(day: i64) -> bool {
    (day + 4).rem_euclid(7) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: ordinary days are like the days before and like the same weekday; holidays among those are passed over.
    #[test]
    fn ordinary_days() {
        let calendar = Calendar::new(vec![98, 93]);
        assert_eq!(calendar.daily(100, 1).as_slice(), [1, 3, 4, 5, 6, 8, 9]);
        assert_eq!(calendar.daily(100, 2).as_slice()[0], 3);
        assert_eq!(calendar.weekly(100, 1).as_slice(), [14, 21, 28]);
        assert_eq!(Calendar::default().weekly(100, 8).as_slice(), [14, 21, 28]);
    }

    /// Guarantees: a holiday is like the last holiday, then like Sundays. Day 3 after the epoch was a Sunday.
    #[test]
    fn holidays() {
        assert!(is_sunday(3) && is_sunday(-4) && !is_sunday(4));
        let calendar = Calendar::new(vec![104, 100]);
        assert_eq!(calendar.daily(104, 1).as_slice(), [4, 3, 10]);
        assert_eq!(calendar.weekly(100, 1).as_slice(), [6, 13]);
    }
}
