//! From the points of a metric series to what it grew by: temporality, resets, unknown starts and competing writers.
//!
//! ```text
//! cumulative:  start unchanged  → v − v_prev over (previous, time]     start ≥ previous → reset: v over (start, time]
//!              start == time    → unknown start: base only             start < previous → two writers: the longer wins
//! delta:       v over (start, time]; what lies between two points is undefined, never zero
//! ```

/// Points are over whatever can be subtracted: a number, or the buckets of a histogram.
pub trait Cumulative: Clone {
    /// What was added since `earlier`; `None` when that cannot be (a count went down, bucket bounds changed): then it is a reset.
    fn since(&self, earlier: &Self) -> Option<Self>;
    /// The value times `share` (0..=1).
    #[must_use]
    fn scaled(&self, share: f64) -> Self;
}

/// One point of a series. Times are nanoseconds since a common origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Point<V> {
    /// Beginning of what the value covers; `None` when the sender did not say.
    pub start: Option<i64>,
    /// End of what the value covers.
    pub time: i64,
    /// The value.
    pub value: V,
}

/// Growth over `(from, to]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth<V> {
    /// Beginning of the covered interval.
    pub from: i64,
    /// End of the covered interval.
    pub to: i64,
    /// What was added in it.
    pub value: V,
    /// The counter had started again.
    pub is_reset: bool,
}

/// What a point meant.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<V> {
    /// The series grew.
    Grew(Growth<V>),
    /// The point only sets the base for the next one: the first of an old series, or one whose start is unknown.
    Base,
    /// Not newer than what is known: repeated or out of order.
    Stale,
    /// Covers time that another writer of the same series covers. The longer of the two is kept.
    Overlap(Option<Growth<V>>),
}

/// The state of one cumulative series.
#[derive(Clone, Debug)]
pub struct CumulativeSeries<V> {
    last: Option<Point<V>>,
}

/// The state of one delta series.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeltaSeries {
    covered: Option<(i64, i64)>,
}

// === impl Cumulative for f64 ===

impl Cumulative for f64 {
    fn since(&self, earlier: &Self) -> Option<Self> {
        (self >= earlier).then(|| self - earlier)
    }

    fn scaled(&self, share: f64) -> Self {
        self * share
    }
}

// === impl CumulativeSeries ===

impl<V> Default for CumulativeSeries<V> {
    fn default() -> Self {
        Self { last: None }
    }
}

impl<V: Cumulative> CumulativeSeries<V> {
    /// Takes the next point. The first point of a series that started at most `fresh` nanoseconds before it is growth since that
    /// start; an older series gives only its base, because its whole past would look like one burst.
    pub fn observe(&mut self, point: Point<V>, fresh: i64) -> Step<V> {
        let Some(last) = &self.last else {
            let step = match point.start {
                Some(start) if start < point.time && point.time.saturating_sub(start) <= fresh => {
                    Step::Grew(Growth { from: start, to: point.time, value: point.value.clone(), is_reset: false })
                }
                _ => Step::Base,
            };
            self.last = Some(point);
            return step;
        };
        let step = next_step(last, &point);
        if matches!(step, Step::Grew(_) | Step::Base) || matches!(step, Step::Overlap(None) if covers_more(&point, last)) {
            self.last = Some(point);
        }
        step
    }
}

/// What `point` means after `last`.
fn next_step<V: Cumulative>(last: &Point<V>, point: &Point<V>) -> Step<V> {
    let grew = |from, value, is_reset| Step::Grew(Growth { from, to: point.time, value, is_reset });
    match point.start {
        Some(start) if Some(start) != last.start => {
            if start >= point.time {
                // Unknown start. The value may have been added at any time before: only its further growth is known.
                return if point.time > last.time { Step::Base } else { Step::Stale };
            }
            if start >= last.time {
                return grew(start, point.value.clone(), true);
            }
            // A sender that says its start only sometimes is still one sender.
            if last.start.is_some() && last.start != Some(last.time) {
                return Step::Overlap(None);
            }
        }
        _ => {}
    }
    if point.time <= last.time {
        return Step::Stale;
    }
    match point.value.since(&last.value) {
        Some(value) => grew(last.time, value, false),
        None => grew(last.time, point.value.clone(), true),
    }
}

/// Whether a point covers a longer time than another.
fn covers_more<V>(point: &Point<V>, other: &Point<V>) -> bool {
    let length = |point: &Point<V>| point.time.saturating_sub(point.start.unwrap_or(point.time));
    length(point) > length(other)
}

// === impl DeltaSeries ===

impl DeltaSeries {
    /// Takes the next point. Of a point that overlaps an earlier one only the part that is new is growth, and only if the point
    /// covers more time than the earlier one; a point without a start covers the time since the previous point, and the very
    /// first such point covers nothing that is known.
    pub fn observe<V: Cumulative>(&mut self, point: &Point<V>) -> Step<V> {
        let start = match (point.start.filter(|start| *start < point.time), self.covered) {
            (Some(start), _) => start,
            (None, Some((_, end))) if end < point.time => end,
            (None, Some(_)) => return Step::Stale,
            (None, None) => {
                self.covered = Some((point.time, point.time));
                return Step::Base;
            }
        };
        let whole = Growth { from: start, to: point.time, value: point.value.clone(), is_reset: false };
        let Some((from, to)) = self.covered else {
            self.covered = Some((start, point.time));
            return Step::Grew(whole);
        };
        if start >= to {
            self.covered = Some((start, point.time));
            return Step::Grew(whole);
        }
        if point.time <= to {
            // The same interval again is a repetition; an earlier one that touches nothing came out of order and cannot be told from it.
            return if (start, point.time) == (from, to) || point.time <= from { Step::Stale } else { Step::Overlap(None) };
        }
        if point.time.saturating_sub(start) <= to.saturating_sub(from) {
            return Step::Overlap(None);
        }
        self.covered = Some((start, point.time));
        let share = ratio(point.time.saturating_sub(to), point.time.saturating_sub(start));
        Step::Overlap(Some(Growth { from: to, to: point.time, value: point.value.scaled(share), is_reset: false }))
    }
}

/// The ratio of two lengths of time.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds of one export interval; 2^53 of them are a hundred days")]
fn ratio(part: i64, whole: i64) -> f64 {
    if whole <= 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRESH: i64 = 90;

    fn point(start: impl Into<Option<i64>>, time: i64, value: f64) -> Point<f64> {
        Point { start: start.into(), time, value }
    }

    fn grew(from: i64, to: i64, value: f64, is_reset: bool) -> Step<f64> {
        Step::Grew(Growth { from, to, value, is_reset })
    }

    fn run(points: &[Point<f64>]) -> Vec<Step<f64>> {
        let mut series = CumulativeSeries::default();
        points.iter().map(|point| series.observe(point.clone(), FRESH)).collect()
    }

    /// Guarantees: with an unchanged start the increment is the difference.
    #[test]
    fn cumulative_growth_is_the_difference() {
        assert_eq!(
            run(&[point(0, 1000, 50.0), point(0, 1060, 65.0), point(0, 1120, 65.0)]),
            [Step::Base, grew(1000, 1060, 15.0, false), grew(1060, 1120, 0.0, false)]
        );
    }

    /// Guarantees: a new start after the last point is a reset and the whole value is growth since that start.
    #[test]
    fn a_new_start_is_a_reset() {
        assert_eq!(run(&[point(0, 1000, 50.0), point(1010, 1060, 7.0)]), [Step::Base, grew(1010, 1060, 7.0, true)]);
    }

    /// Guarantees: a value that fell under the same start is a reset too.
    #[test]
    fn a_fallen_value_is_a_reset() {
        assert_eq!(run(&[point(None, 1000, 50.0), point(None, 1060, 8.0)]), [Step::Base, grew(1000, 1060, 8.0, true)]);
    }

    /// Guarantees: start == time is an unknown start: no growth, but the base of the next point, which may name that start.
    #[test]
    fn an_unknown_start_sets_the_base() {
        assert_eq!(
            run(&[point(0, 1000, 50.0), point(1060, 1060, 400.0), point(1060, 1120, 410.0)]),
            [Step::Base, Step::Base, grew(1060, 1120, 10.0, false)]
        );
    }

    /// Guarantees: the first point of an old series is dropped, that of a series which just began is counted.
    #[test]
    fn first_points() {
        assert_eq!(run(&[point(0, 1000, 1e9)]), [Step::Base]);
        assert_eq!(run(&[point(950, 1000, 5.0)]), [grew(950, 1000, 5.0, false)]);
        assert_eq!(run(&[point(None, 1000, 5.0)]), [Step::Base]);
    }

    /// Guarantees: repeated and reordered points change nothing.
    #[test]
    fn stale_points() {
        assert_eq!(
            run(&[point(0, 1000, 50.0), point(0, 1000, 50.0), point(0, 940, 40.0), point(0, 1060, 51.0)])[1..],
            [Step::Stale, Step::Stale, grew(1000, 1060, 1.0, false)]
        );
    }

    /// Guarantees: of two writers under one identity the one that covers more time counts, in either order of arrival.
    #[test]
    fn the_longer_writer_wins() {
        let steps = run(&[point(0, 1000, 50.0), point(500, 1001, 7.0), point(0, 1060, 60.0), point(500, 1061, 8.0)]);
        assert_eq!(steps, [Step::Base, Step::Overlap(None), grew(1000, 1060, 10.0, false), Step::Overlap(None)]);
        let steps = run(&[point(500, 1000, 7.0), point(0, 1001, 50.0), point(500, 1060, 8.0), point(0, 1061, 60.0)]);
        assert_eq!(steps, [Step::Base, Step::Overlap(None), Step::Overlap(None), grew(1001, 1061, 10.0, false)]);
    }

    /// Guarantees: delta points add over their interval, a gap gives nothing, repetition is stale, a longer overlap gives its new part.
    #[test]
    fn delta_points() {
        let mut series = DeltaSeries::default();
        assert_eq!(series.observe(&point(0, 10, 5.0)), grew(0, 10, 5.0, false));
        assert_eq!(series.observe(&point(0, 10, 5.0)), Step::Stale);
        assert_eq!(series.observe(&point(30, 40, 6.0)), grew(30, 40, 6.0, false));
        assert_eq!(series.observe(&point(35, 45, 9.0)), Step::Overlap(None));
        assert_eq!(series.observe(&point(30, 50, 8.0)), Step::Overlap(Some(Growth { from: 40, to: 50, value: 4.0, is_reset: false })));
        assert_eq!(series.observe(&point(None, 60, 1.0)), grew(50, 60, 1.0, false));
    }

    proptest! {
        /// Guarantees: without resets the growths of a series add up to its last value minus its base, and never overlap.
        #[test]
        fn growth_telescopes(steps in proptest::collection::vec((1i64..100, 0u32..1000), 1..50)) {
            let mut series = CumulativeSeries::default();
            let (mut time, mut value, mut sum, mut end) = (1000, 5.0, 0.0, 1000);
            prop_assert_eq!(series.observe(point(0, time, value), FRESH), Step::Base);
            for (gap, added) in steps {
                time += gap;
                value += f64::from(added);
                let Step::Grew(growth) = series.observe(point(0, time, value), FRESH) else { panic!("no growth") };
                prop_assert_eq!(growth.from, end);
                end = growth.to;
                sum += growth.value;
            }
            prop_assert!((sum - (value - 5.0)).abs() < 1e-9);
        }
    }
}
