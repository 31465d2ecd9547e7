//! Metric exports of the same services: every point kind, counters that grow from export to export, both temporalities.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, Summary, SummaryDataPoint, metric, number_data_point,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracescale_core::time::Timestamp;

use super::{BASE, integer, resource, scope, text, unix_nanos};

/// The size of the generated exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricShape {
    /// Equal seeds give equal exports.
    pub seed: u64,
    /// Services; at least one.
    pub services: usize,
    /// Instances of each service; every instance is a resource. At least one.
    pub instances: usize,
    /// Attribute sets per metric, that is, points per metric and export.
    pub series: usize,
}

/// Makes one export after the other; its counters only grow.
#[derive(Clone, Debug)]
pub struct MetricGenerator {
    shape: MetricShape,
    random: SmallRng,
    /// Per resource and series.
    counters: Vec<Counter>,
    /// When the export before this one was; deltas start there.
    previous: Timestamp,
}

#[derive(Clone, Debug, Default)]
struct Counter {
    total: u64,
    seconds: f64,
    buckets: [u64; BOUNDS.len() + 1],
    latest: [u64; BOUNDS.len() + 1],
}

/// The buckets that the conventions advise for `http.server.request.duration`, seconds.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// How far apart the exports of an SDK are by default.
pub const EXPORT_INTERVAL: Duration = Duration::from_secs(60);

/// Metrics per resource.
const METRICS: usize = 6;

// === impl MetricShape ===

impl Default for MetricShape {
    fn default() -> Self {
        Self { seed: 1, services: 8, instances: 2, series: 8 }
    }
}

impl MetricShape {
    /// Points in one export.
    #[must_use]
    pub const fn points(self) -> usize {
        self.services * self.instances * self.series * METRICS
    }
}

// === impl Counter ===

impl Counter {
    fn grow(&mut self, random: &mut SmallRng) {
        self.latest = [0; BOUNDS.len() + 1];
        for _ in 0..random.random_range(5..40) {
            let bucket = random.random_range(0..8_usize);
            self.latest[bucket] += 1;
            self.total += 1;
            self.seconds += BOUNDS[bucket] * 0.8;
        }
        for (bucket, latest) in self.buckets.iter_mut().zip(self.latest) {
            *bucket += latest;
        }
    }
}

// === impl MetricGenerator ===

impl MetricGenerator {
    /// A generator at its first export.
    #[must_use]
    pub fn new(shape: MetricShape) -> Self {
        let shape = MetricShape { services: shape.services.max(1), instances: shape.instances.max(1), ..shape };
        let counters = vec![Counter::default(); shape.services * shape.instances * shape.series];
        Self { shape, random: SmallRng::seed_from_u64(shape.seed), counters, previous: BASE }
    }

    /// The export of all resources at this time. Counters started at [`BASE`].
    pub fn request(&mut self, at: Timestamp) -> ExportMetricsServiceRequest {
        for counter in &mut self.counters {
            counter.grow(&mut self.random);
        }
        let resources = 0..self.shape.services * self.shape.instances;
        let resource_metrics = resources.map(|index| ResourceMetrics {
            resource: Some(resource(index / self.shape.instances, index % self.shape.instances)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope("io.opentelemetry.runtime")),
                metrics: self.metrics(index, at),
                schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
            }],
            schema_url: String::new(),
        });
        let request = ExportMetricsServiceRequest { resource_metrics: resource_metrics.collect() };
        self.previous = at;
        request
    }

    fn metrics(&self, resource: usize, at: Timestamp) -> Vec<Metric> {
        let counters = &self.counters[resource * self.shape.series..][..self.shape.series];
        let points = |point: &dyn Fn(usize, &Counter) -> NumberDataPoint| -> Vec<NumberDataPoint> {
            counters.iter().enumerate().map(|(series, counter)| point(series, counter)).collect()
        };
        let cumulative = AggregationTemporality::Cumulative.into();
        let delta = AggregationTemporality::Delta.into();
        let total = points(&|series, counter| number(series, BASE, at, number_data_point::Value::AsInt(counter.total.cast_signed())));
        let busy = points(&|series, counter| number(series, BASE, at, number_data_point::Value::AsDouble(counter.seconds)));
        let active =
            points(&|series, counter| number(series, BASE, at, number_data_point::Value::AsInt((counter.total % 17).cast_signed())));
        let durations = counters.iter().enumerate().map(|(series, counter)| histogram(series, at, counter)).collect();
        let sizes = counters.iter().enumerate().map(|(series, counter)| exponential(series, self.previous, at, counter)).collect();
        let quantiles = counters.iter().enumerate().map(|(series, counter)| summary(series, at, counter)).collect();
        vec![
            named("shop.requests", "{request}", metric::Data::Sum(sum(total, cumulative, true))),
            named("process.cpu.time", "s", metric::Data::Sum(sum(busy, cumulative, true))),
            named("http.server.active_requests", "{request}", metric::Data::Gauge(Gauge { data_points: active })),
            named(
                "http.server.request.duration",
                "s",
                metric::Data::Histogram(Histogram { data_points: durations, aggregation_temporality: cumulative }),
            ),
            named(
                "http.server.request.body.size",
                "By",
                metric::Data::ExponentialHistogram(ExponentialHistogram { data_points: sizes, aggregation_temporality: delta }),
            ),
            named("jvm.gc.pause", "s", metric::Data::Summary(Summary { data_points: quantiles })),
        ]
    }
}

fn named(name: &str, unit: &str, data: metric::Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

fn sum(data_points: Vec<NumberDataPoint>, aggregation_temporality: i32, is_monotonic: bool) -> Sum {
    Sum { data_points, aggregation_temporality, is_monotonic }
}

fn attributes(series: usize) -> Vec<KeyValue> {
    let method = if series.is_multiple_of(2) { "GET" } else { "POST" };
    vec![
        text("http.request.method", method),
        text("http.route", format!("/api/resource/{series}")),
        integer("http.response.status_code", 200),
    ]
}

fn number(series: usize, start: Timestamp, at: Timestamp, value: number_data_point::Value) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: unix_nanos(start),
        time_unix_nano: unix_nanos(at),
        value: Some(value),
        ..NumberDataPoint::default()
    }
}

fn histogram(series: usize, at: Timestamp, counter: &Counter) -> HistogramDataPoint {
    HistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: unix_nanos(BASE),
        time_unix_nano: unix_nanos(at),
        count: counter.total,
        sum: Some(counter.seconds),
        bucket_counts: counter.buckets.to_vec(),
        explicit_bounds: BOUNDS.to_vec(),
        ..HistogramDataPoint::default()
    }
}

fn exponential(series: usize, start: Timestamp, at: Timestamp, counter: &Counter) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: unix_nanos(start),
        time_unix_nano: unix_nanos(at),
        count: counter.latest.iter().sum(),
        scale: 3,
        positive: Some(Buckets { offset: 40, bucket_counts: counter.latest.to_vec() }),
        ..ExponentialHistogramDataPoint::default()
    }
}

fn summary(series: usize, at: Timestamp, counter: &Counter) -> SummaryDataPoint {
    let quantile_values = [(0.5, 0.004), (0.99, 0.031)].map(|(quantile, value)| ValueAtQuantile { quantile, value });
    SummaryDataPoint {
        attributes: attributes(series),
        start_time_unix_nano: unix_nanos(BASE),
        time_unix_nano: unix_nanos(at),
        count: counter.total,
        sum: counter.seconds,
        quantile_values: quantile_values.to_vec(),
        ..SummaryDataPoint::default()
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// Guarantees: the seed alone decides the bytes, and every export has the promised number of points.
    #[test]
    fn exports_are_deterministic_and_complete() {
        let shape = MetricShape::default();
        let (mut one, mut two) = (MetricGenerator::new(shape), MetricGenerator::new(shape));
        for minute in 1..4 {
            let at = BASE + EXPORT_INTERVAL * minute;
            let request = one.request(at);
            assert_eq!(request.encode_to_vec(), two.request(at).encode_to_vec());
            let metrics = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics[0].metrics);
            assert_eq!(metrics.count() * shape.series, shape.points());
        }
    }

    /// Guarantees: a cumulative counter never falls.
    #[test]
    fn counters_grow() {
        let mut generator = MetricGenerator::new(MetricShape::default());
        let mut totals = (1..4).map(|minute| {
            let request = generator.request(BASE + EXPORT_INTERVAL * minute);
            let metric = &request.resource_metrics[0].scope_metrics[0].metrics[3];
            let Some(metric::Data::Histogram(histogram)) = &metric.data else { panic!("the fourth metric is the histogram") };
            assert_eq!(histogram.data_points[0].bucket_counts.iter().sum::<u64>(), histogram.data_points[0].count);
            histogram.data_points[0].count
        });
        assert!(totals.next() < totals.next() && totals.next().is_some());
    }
}
