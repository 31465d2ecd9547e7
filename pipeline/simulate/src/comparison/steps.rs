//! Step functions: sums of them, and fewer points that look the same.

use tracescale_core::time::{Timestamp, nanos};

/// From this time on, this value.
pub(super) type Point = (Timestamp, f64);

/// Stretches of time that are told apart in a plot.
const BUCKETS: i64 = 500;
/// Most points of a line: first to be drawn are the lowest, the highest and the last of each stretch.
pub(super) const POINTS_MAX: usize = 1502;

/// The sum of step functions, each in order of time; each is zero before its first point. What is no number changes nothing.
pub(super) fn sum(series: impl IntoIterator<Item = Vec<Point>>) -> Vec<Point> {
    let mut changes: Vec<Point> = Vec::new();
    for points in series {
        let mut before = 0.0;
        for (time, value) in points.into_iter().filter(|point| point.1.is_finite()) {
            changes.push((time, value - before));
            before = value;
        }
    }
    changes.sort_by_key(|change| change.0);
    let mut total = 0.0;
    let mut out: Vec<Point> = Vec::new();
    for (time, change) in changes {
        total += change;
        match out.last_mut() {
            Some(last) if last.0 == time => last.1 = total,
            _ => out.push((time, total)),
        }
    }
    out
}

/// The part of a step function within a time, with few enough points to draw: of each five hundredth of the time the lowest,
/// the highest and the last, so that no spike is lost and what comes after is right.
pub(super) fn thin(points: &[Point], from: Timestamp, until: Timestamp) -> Vec<Point> {
    let clipped = clip(points, from, until);
    if clipped.len() <= POINTS_MAX {
        return clipped;
    }
    let width = nanos(until.since(from)) / BUCKETS + 1;
    let bucket = |point: &Point| nanos(point.0.since(from)) / width;
    let mut out = Vec::with_capacity(POINTS_MAX);
    for group in clipped.chunk_by(|left, right| bucket(left) == bucket(right)) {
        let by_value = |left: &usize, right: &usize| group[*left].1.total_cmp(&group[*right].1);
        let lowest = (0..group.len()).min_by(by_value);
        let highest = (0..group.len()).max_by(by_value);
        let mut kept: Vec<usize> = lowest.into_iter().chain(highest).chain(group.len().checked_sub(1)).collect();
        kept.sort_unstable();
        kept.dedup();
        out.extend(kept.into_iter().map(|place| group[place]));
    }
    out
}

/// The part within a time, without points that change nothing. What holds at the beginning begins there.
fn clip(points: &[Point], from: Timestamp, until: Timestamp) -> Vec<Point> {
    let mut out: Vec<Point> = Vec::new();
    for (time, value) in points.iter().copied().filter(|point| point.1.is_finite() && point.0 <= until) {
        let time = time.max(from);
        match out.last_mut() {
            Some(last) if last.0 == time => last.1 = value,
            Some(last) if last.1.total_cmp(&value).is_eq() => {}
            _ => out.push((time, value)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    /// Guarantees: step functions with different times add up; what is no number is passed over.
    #[test]
    fn sums() {
        let found = sum([vec![(at(0), 1.0), (at(10), 3.0)], vec![(at(5), 2.0), (at(10), 4.0), (at(12), f64::NAN)]]);
        assert_eq!(found, [(at(0), 1.0), (at(5), 3.0), (at(10), 7.0)]);
        assert_eq!(sum([]), []);
    }

    /// Guarantees: a single spike and a single dip among very many points are drawn, and what follows them is right.
    #[test]
    fn spikes_survive() {
        let spiky = |second: i64| match second {
            43_210 => 1000.0,
            54_321 => -7.0,
            _ if second >= 70_000 => 5.0,
            // Noise that keeps every point.
            _ => 10.0 + f64::from(u8::try_from(second % 7).unwrap()),
        };
        let points: Vec<Point> = (0..86_400).map(|second| (at(second), spiky(second))).collect();
        let thinned = thin(&points, at(0), at(86_400));
        assert!(thinned.len() <= POINTS_MAX && thinned.len() > 500, "{}", thinned.len());
        assert!(thinned.contains(&(at(43_210), 1000.0)) && thinned.contains(&(at(54_321), -7.0)));
        assert!(thinned.is_sorted_by_key(|point| point.0));
        assert_eq!(thinned.last(), Some(&(at(70_000), 5.0)));
    }

    /// Guarantees: what held before the beginning holds at the beginning; what comes after the end is not drawn.
    #[test]
    fn clips() {
        let points = [(at(0), 1.0), (at(5), 2.0), (at(20), 2.0), (at(30), f64::INFINITY), (at(40), 4.0), (at(60), 5.0)];
        assert_eq!(thin(&points, at(10), at(50)), [(at(10), 2.0), (at(40), 4.0)]);
        assert_eq!(thin(&[], at(10), at(10)), []);
    }
}
