//! The state of one metric series, whatever its kind.

use tracescale_models::counter::{Cumulative, CumulativeSeries, DeltaSeries, Growth, Point, Step};
use tracescale_models::explicit::ExplicitHistogram;
use tracescale_models::exponential::ExponentialHistogram;

/// Count and sum of a summary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Totals {
    pub(super) count: f64,
    pub(super) sum: f64,
}

/// A point of any kind that grows.
#[derive(Debug)]
pub(super) enum AnyPoint {
    Number(Point<f64>),
    DeltaNumber(Point<f64>),
    Explicit(Point<ExplicitHistogram>),
    DeltaExplicit(Point<ExplicitHistogram>),
    Exponential(Point<ExponentialHistogram>),
    DeltaExponential(Point<ExponentialHistogram>),
    Summary(Point<Totals>),
}

/// What grew.
#[derive(Debug)]
pub(super) enum Value {
    Number(f64),
    Explicit(ExplicitHistogram),
    Exponential(ExponentialHistogram),
    Totals(Totals),
}

/// [`Step`] of any kind.
#[derive(Debug)]
pub(super) enum Observed {
    Grew(Growth<Value>),
    Base,
    Stale,
    Overlap(Option<Growth<Value>>),
    Malformed,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Series {
    /// Newest event time of its points, in nanoseconds.
    pub(super) seen: i64,
    state: State,
}

#[derive(Debug)]
enum State {
    Number(CumulativeSeries<f64>),
    Explicit(Box<CumulativeSeries<ExplicitHistogram>>),
    Exponential(Box<CumulativeSeries<ExponentialHistogram>>),
    Summary(CumulativeSeries<Totals>),
    Delta(DeltaSeries),
}

// === impl AnyPoint ===

impl AnyPoint {
    pub(super) fn time(&self) -> i64 {
        match self {
            Self::Number(point) | Self::DeltaNumber(point) => point.time,
            Self::Explicit(point) | Self::DeltaExplicit(point) => point.time,
            Self::Exponential(point) | Self::DeltaExponential(point) => point.time,
            Self::Summary(point) => point.time,
        }
    }
}

// === impl Series ===

impl Series {
    pub(super) fn new(point: &AnyPoint, time: i64) -> Self {
        let state = match point {
            AnyPoint::Number(_) => State::Number(CumulativeSeries::default()),
            AnyPoint::Explicit(_) => State::Explicit(Box::default()),
            AnyPoint::Exponential(_) => State::Exponential(Box::default()),
            AnyPoint::Summary(_) => State::Summary(CumulativeSeries::default()),
            AnyPoint::DeltaNumber(_) | AnyPoint::DeltaExplicit(_) | AnyPoint::DeltaExponential(_) => State::Delta(DeltaSeries::default()),
        };
        Self { seen: time, state }
    }

    /// Takes the next point; one that changes the kind of the series begins it anew.
    pub(super) fn observe(&mut self, point: AnyPoint, time: i64, fresh: i64) -> Observed {
        if let AnyPoint::Explicit(Point { value, .. }) | AnyPoint::DeltaExplicit(Point { value, .. }) = &point
            && (!value.is_well_formed() || value.count > 0.0 && value.estimated_sum().is_none())
        {
            return Observed::Malformed;
        }
        self.seen = self.seen.max(time);
        match (&mut self.state, point) {
            (State::Number(series), AnyPoint::Number(point)) => observed(series.observe(point, fresh), Value::Number),
            (State::Explicit(series), AnyPoint::Explicit(point)) => observed(series.observe(point, fresh), Value::Explicit),
            (State::Exponential(series), AnyPoint::Exponential(point)) => observed(series.observe(point, fresh), Value::Exponential),
            (State::Summary(series), AnyPoint::Summary(point)) => observed(series.observe(point, fresh), Value::Totals),
            (State::Delta(series), AnyPoint::DeltaNumber(point)) => observed(series.observe(&point), Value::Number),
            (State::Delta(series), AnyPoint::DeltaExplicit(point)) => observed(series.observe(&point), Value::Explicit),
            (State::Delta(series), AnyPoint::DeltaExponential(point)) => observed(series.observe(&point), Value::Exponential),
            (_, point) => {
                *self = Self::new(&point, time);
                Observed::Malformed
            }
        }
    }
}

fn observed<V>(step: Step<V>, value: fn(V) -> Value) -> Observed {
    let convert = |growth: Growth<V>| Growth { from: growth.from, to: growth.to, value: value(growth.value), is_reset: growth.is_reset };
    match step {
        Step::Grew(growth) => Observed::Grew(convert(growth)),
        Step::Base => Observed::Base,
        Step::Stale => Observed::Stale,
        Step::Overlap(growth) => Observed::Overlap(growth.map(convert)),
    }
}

// === impl Totals ===

impl Cumulative for Totals {
    fn since(&self, earlier: &Self) -> Option<Self> {
        (self.count >= earlier.count).then_some(Self { count: self.count - earlier.count, sum: self.sum - earlier.sum })
    }

    fn scaled(&self, share: f64) -> Self {
        Self { count: self.count * share, sum: self.sum * share }
    }
}
