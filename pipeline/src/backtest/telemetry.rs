//! What a simulated service would have sent: spans in the schema of the receiver, fewer than requests, each standing for many.
//!
//! The spans of a step have the latency quantiles, about the mean, and the number of what completed in it, and bear the instances
//! of the replicas that were ready, so that windows over them show what windows over all requests would.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryBuilder, Float64Array, Int32Array, RecordBatch, StringArray,
    TimestampNanosecondArray, new_null_array,
};
use arrow::array::{BinaryArray, UInt32Array};
use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::error::ArrowError;
use tracescale_core::schema::Stream;
use tracescale_core::time::{Timestamp, nanos};
use tracescale_simulate::plant::{Latency, Observation, Phase};

/// Whose spans these are.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    /// `service.name`.
    pub service: String,
    /// `service.namespace`.
    pub namespace: Option<String>,
}

/// The spans of one step of all services.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    ends: Vec<i64>,
    durations: Vec<f64>,
    weights: Vec<f64>,
    services: Vec<i32>,
    instances: Vec<i32>,
    /// Spans that each part of the requests may have.
    each: u32,
    /// Counts up: gives each span an id.
    next: u64,
}

/// Spans of a step of all services together, about: models take a number for the better known the more spans it is from, which few
/// services can afford.
const SPANS_MAX: usize = 2048;
/// Spans of a part at most.
const EACH_MAX: u32 = 64;

/// Shares of the requests, the fastest first, each part in spans of its own: finer towards the tail.
const PARTS: [f64; 9] = [0.2, 0.2, 0.2, 0.15, 0.1, 0.08, 0.04, 0.02, 0.01];
/// What requests up to the median are multiplied by at most, so that all have their mean.
const STRETCH_MAX: f64 = 2.0;

// === impl Spans ===

impl Spans {
    /// For so many services.
    pub(crate) fn of(services: usize) -> Self {
        let each = u32::try_from(SPANS_MAX / (PARTS.len() * services.max(1))).unwrap_or(EACH_MAX);
        Self { each: each.clamp(1, EACH_MAX), ..Self::default() }
    }

    /// Adds what completed at a service during a step.
    pub(crate) fn add(&mut self, service: usize, step: u64, seen: &Observation) {
        let (Some(latency), true) = (seen.latency, seen.completions > 0.0) else { return };
        let strata = strata(self.each(seen.completions));
        let durations = durations(&latency, &strata);
        let ready = seen.count(Phase::Ready).max(1);
        let (length, count) = (nanos(seen.until.since(seen.from)), u32::try_from(strata.len()).unwrap_or(u32::MAX));
        for (place, ((share, _), duration)) in (0_u32..).zip(strata.iter().zip(durations)) {
            // Spread over the step, and over the replicas in turn.
            self.ends.push(seen.from.as_nanos() + length * i64::from(2 * place + 1) / (2 * i64::from(count)));
            self.durations.push(duration);
            self.weights.push(share * seen.completions);
            self.services.push(i32::try_from(service).unwrap_or(i32::MAX));
            let turn = step.wrapping_mul(u64::from(count)).wrapping_add(u64::from(place)) % u64::from(ready);
            self.instances.push(i32::try_from(turn).unwrap_or(0));
        }
    }

    /// Spans of each part, so that none stands for less than a request.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and bounds follow")]
    fn each(&self, completions: f64) -> u32 {
        let parts = u32::try_from(PARTS.len()).unwrap_or(1);
        ((completions / f64::from(parts)) as u32).clamp(1, self.each.max(1))
    }

    /// All spans added, as rows of `spans`; begins anew.
    ///
    /// # Errors
    /// Never: every column is made in its length.
    pub(crate) fn take(&mut self, senders: &[Sender], received_at: Timestamp) -> Result<RecordBatch, ArrowError> {
        let count = self.ends.len();
        let schema = Stream::Spans.schema();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(self.column(field, senders, received_at)?);
        }
        self.next += count as u64;
        let rows = RecordBatch::try_new(SchemaRef::clone(&schema), columns);
        let (next, each) = (self.next, self.each);
        *self = Self { next, each, ..Self::default() };
        rows
    }

    fn column(&self, field: &Field, senders: &[Sender], received_at: Timestamp) -> Result<ArrayRef, ArrowError> {
        let count = self.ends.len();
        let text = |values: Vec<Option<&str>>, keys: Vec<i32>| -> Result<ArrayRef, ArrowError> {
            Ok(Arc::new(DictionaryArray::try_new(Int32Array::from(keys), Arc::new(StringArray::from(values)))?))
        };
        Ok(match field.name().as_str() {
            "end_time" => Arc::new(TimestampNanosecondArray::from(self.ends.clone())),
            "start_time" => Arc::new(TimestampNanosecondArray::from_iter_values(self.starts())),
            "duration" => Arc::new(Float64Array::from(self.durations.clone())),
            "received_at" => Arc::new(TimestampNanosecondArray::from_value(received_at.as_nanos(), count)),
            "adjusted_count" => Arc::new(Float64Array::from(self.weights.clone())),
            "is_entry" | "sampling_known" => Arc::new(BooleanArray::from(vec![true; count])),
            "is_error" => Arc::new(BooleanArray::from(vec![false; count])),
            "trace_id" => ids(self.next, count, 16)?,
            "span_id" => ids(self.next, count, 8)?,
            "kind" => text(vec![Some("SERVER")], vec![0; count])?,
            "name" => text(vec![Some("simulated")], vec![0; count])?,
            "status" => text(vec![Some("UNSET")], vec![0; count])?,
            "service_name" => text(senders.iter().map(|sender| Some(sender.service.as_str())).collect(), self.services.clone())?,
            "service_namespace" => text(senders.iter().map(|sender| sender.namespace.as_deref()).collect(), self.services.clone())?,
            "service_instance_id" => {
                let most = self.instances.iter().copied().max().unwrap_or(0);
                let names: Vec<String> = (0..=most).map(|number| format!("replica-{number}")).collect();
                text(names.iter().map(|name| Some(name.as_str())).collect(), self.instances.clone())?
            }
            "dropped_attributes_count" | "dropped_events_count" | "dropped_links_count" => Arc::new(UInt32Array::from(vec![0; count])),
            "attributes" => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n([].as_slice(), count))),
            "resource_attributes" => {
                let empty = Arc::new(BinaryArray::from_iter_values([[].as_slice()]));
                Arc::new(DictionaryArray::try_new(Int32Array::from(vec![0; count]), empty)?)
            }
            _ => absent(field.data_type(), count),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "latencies are far below 292 years")]
    fn starts(&self) -> impl Iterator<Item = i64> {
        self.ends.iter().zip(&self.durations).map(|(end, duration)| end - (duration * 1e9) as i64)
    }
}

/// The share of the requests that each span of a step stands for, and the quantile in its middle.
fn strata(each: u32) -> Vec<(f64, f64)> {
    let mut low = 0.0;
    let part = |share: f64| {
        let (from, width) = (low, share / f64::from(each));
        low += share;
        (0..each).map(move |place| (width, from + width * (f64::from(place) + 0.5)))
    };
    PARTS.into_iter().flat_map(part).collect()
}

/// The durations of spans: the quantiles from the median on as they are; below, where they are less known, so that the mean is right.
fn durations(latency: &Latency, strata: &[(f64, f64)]) -> Vec<f64> {
    let raw: Vec<f64> = strata.iter().map(|(_, quantile)| at_quantile(latency, *quantile)).collect();
    let sum = |is_fast: bool| -> f64 {
        strata
            .iter()
            .zip(&raw)
            .filter(|((_, quantile), _)| (*quantile <= 0.5) == is_fast)
            .map(|((share, _), duration)| share * duration)
            .sum()
    };
    let (fast, slow) = (sum(true), sum(false));
    let stretch = if fast > 0.0 { ((latency.mean - slow) / fast).clamp(1.0 / STRETCH_MAX, STRETCH_MAX) } else { 1.0 };
    let of = |((_, quantile), duration): (&(f64, f64), f64)| if *quantile <= 0.5 { duration * stretch } else { duration };
    strata.iter().zip(raw).map(of).collect()
}

/// A quantile between and beyond those that are known, on a straight line over the logarithm of what is above it: straight for
/// exponential tails.
fn at_quantile(latency: &Latency, quantile: f64) -> f64 {
    let above = |quantile: f64| -(1.0 - quantile).ln();
    let known = [(0.0, 0.0), (above(0.5), latency.p50), (above(0.95), latency.p95), (above(0.99), latency.p99)];
    let at = above(quantile);
    let after = known.iter().position(|(known, _)| *known >= at).unwrap_or(known.len() - 1).max(1);
    let ((low, from), (high, to)) = (known[after - 1], known[after]);
    (from + (to - from) * (at - low) / (high - low)).max(0.0)
}

fn ids(first: u64, count: usize, width: i32) -> Result<ArrayRef, ArrowError> {
    let mut builder = FixedSizeBinaryBuilder::with_capacity(count, width);
    for number in (first + 1..).take(count) {
        let bytes = u128::from(number).to_be_bytes();
        builder.append_value(&bytes[16 - usize::try_from(width).unwrap_or(16)..])?;
    }
    Ok(Arc::new(builder.finish()))
}

fn absent(data_type: &DataType, count: usize) -> ArrayRef {
    new_null_array(data_type, count)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Float64Type;
    use tracescale_simulate::plant::ReplicaGroup;

    use super::*;

    /// Guarantees: the spans of a step fit the stream's schema, stand for as many requests as completed, have their mean
    /// latency and their quantiles, and end within the step; there are no more of them than requests, and few where there are many services.
    #[test]
    fn spans_stand_for_what_completed() {
        let at = Timestamp::from_secs;
        // Exponential, but for a mean that is a little higher.
        let latency = Latency { mean: 0.21, p50: 0.2 * 2_f64.ln(), p95: 0.2 * 20_f64.ln(), p99: 0.2 * 100_f64.ln(), over: 0.0 };
        let ready =
            ReplicaGroup { first: 0, count: 3, phase: Phase::Ready, created_at: at(0), ready_at: Some(at(0)), cpu: 0.5, concurrency: 1.0 };
        let seen = Observation {
            from: at(100),
            until: at(115),
            completions: 300.0,
            latency: Some(latency),
            replicas: vec![ready],
            ..Observation::default()
        };
        let mut spans = Spans::of(2);
        spans.add(1, 7, &seen);
        assert_eq!(spans.ends.len(), 33 * PARTS.len());
        assert_eq!((Spans::of(1).each, Spans::of(200).each), (EACH_MAX, 1));
        let senders = ["cart", "pay"].map(|service| Sender { service: service.to_owned(), namespace: None });
        let rows = spans.take(&senders, at(115)).unwrap();
        let column = |name: &str| rows.column_by_name(name).unwrap().as_primitive::<Float64Type>().values().to_vec();
        let (weights, durations) = (column("adjusted_count"), column("duration"));
        let total: f64 = weights.iter().sum();
        let mean = weights.iter().zip(&durations).map(|(weight, duration)| weight * duration).sum::<f64>() / total;
        assert!((total - 300.0).abs() < 1e-9 && (mean - 0.21).abs() < 1e-9, "{mean}");
        for (seconds, share) in [(0.2 * 4_f64.ln(), 0.25), (latency.p95, 0.05), (latency.p99, 0.01)] {
            let above: f64 = weights.iter().zip(&durations).filter(|(_, duration)| **duration > seconds).map(|(weight, _)| weight).sum();
            assert!((above / 300.0 / share - 1.0).abs() < 0.1, "{seconds}: {above}");
        }
        let services = arrow::compute::cast(rows.column_by_name("service_name").unwrap(), &DataType::Utf8).unwrap();
        assert!(services.as_string::<i32>().iter().all(|name| name == Some("pay")));
        assert_eq!(spans.take(&senders, at(115)).unwrap().num_rows(), 0);
    }
}
