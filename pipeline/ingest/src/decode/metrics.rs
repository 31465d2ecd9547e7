//! Metrics requests: checks each point and fills the columns from the decoded structs.
//!
//! Gauges and summaries have no temporality, and only sums say whether they are monotonic. A start time after the
//! point's own time says nothing and is NULL. A point flagged as holding no recorded value has none: its value columns
//! are NULL, whatever the message holds.

use arrow::error::ArrowError;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
};
use tracescale_core::time::Timestamp;

use super::Decoded;
use super::metric_columns::{Distribution, MetricColumns, MetricKind, MetricRow, PointRow, Side, texts_hash, unordered_hash};
use super::prost::encode_attributes;
use super::refusal::{self, Refusal, Tally};

/// `DataPointFlags.NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u32 = 1;

/// A metrics table being filled.
struct Filling {
    columns: MetricColumns,
    tally: Tally,
}

/// A kind of data point.
trait Point {
    /// Times, flags and exemplars.
    fn row(&self) -> Result<PointRow, Refusal>;
    fn attributes(&self) -> &[KeyValue];
    /// Checks what only this kind of point has.
    fn check(&self) -> Result<(), Refusal>;
    /// Fills the columns that only this kind of point has.
    fn fill(&self, columns: &mut MetricColumns, row: usize);
}

/// The rows of a metrics request.
pub(super) fn rows(request: &ExportMetricsServiceRequest, received_at: Timestamp) -> Result<Decoded, ArrowError> {
    let mut filling = Filling { columns: MetricColumns::new(received_at.as_nanos()), tally: Tally::default() };
    let mut raw = Vec::new();
    for resource_metrics in &request.resource_metrics {
        raw.clear();
        encode_attributes(&mut raw, resource_metrics.resource.as_ref().map_or(&[], |resource| &resource.attributes));
        let resource = filling.columns.resources.intern(&raw);
        let resource_hash = unordered_hash(&raw);
        for scope_metrics in &resource_metrics.scope_metrics {
            let scope_hash = scope_hash(scope_metrics.scope.as_ref());
            let scope_name = scope_metrics.scope.as_ref().map_or("", |scope| &scope.name);
            for metric in &scope_metrics.metrics {
                let identity = texts_hash(&[resource_hash, scope_hash], &[&metric.name, &metric.unit]);
                filling.metric(metric, scope_name, identity);
            }
        }
        filling.columns.close_resource(&resource);
    }
    Ok(filling.tally.into_decoded(filling.columns.finish()?))
}

fn scope_hash(scope: Option<&InstrumentationScope>) -> u64 {
    scope.map_or(0, |scope| {
        let mut raw = Vec::new();
        encode_attributes(&mut raw, &scope.attributes);
        texts_hash(&[unordered_hash(&raw)], &[&scope.name, &scope.version])
    })
}

// === impl Filling ===

impl Filling {
    fn metric(&mut self, metric: &Metric, scope_name: &str, identity: u64) {
        let row = |kind, temporality, is_monotonic| MetricRow {
            name: &metric.name,
            unit: &metric.unit,
            scope_name,
            kind,
            temporality,
            is_monotonic,
            identity,
        };
        match &metric.data {
            Some(Data::Gauge(gauge)) => self.points(&row(MetricKind::Gauge, 0, false), &gauge.data_points),
            Some(Data::Sum(sum)) => {
                self.points(&row(MetricKind::Sum, sum.aggregation_temporality, sum.is_monotonic), &sum.data_points);
            }
            Some(Data::Histogram(histogram)) => {
                self.points(&row(MetricKind::Histogram, histogram.aggregation_temporality, false), &histogram.data_points);
            }
            Some(Data::ExponentialHistogram(histogram)) => {
                let row = row(MetricKind::ExponentialHistogram, histogram.aggregation_temporality, false);
                self.points(&row, &histogram.data_points);
            }
            Some(Data::Summary(summary)) => self.points(&row(MetricKind::Summary, 0, false), &summary.data_points),
            None => {}
        }
    }

    fn points<P: Point>(&mut self, metric: &MetricRow<'_>, points: &[P]) {
        for point in points {
            self.tally.items += 1;
            match checked(metric, point) {
                Ok(row) => {
                    encode_attributes(&mut self.columns.attributes.data, point.attributes());
                    let index = self.columns.push(metric, &row);
                    if !row.no_recorded_value {
                        point.fill(&mut self.columns, index);
                    }
                }
                Err(refusal) => self.tally.refuse(format_args!("metric '{}'", metric.name), refusal),
            }
        }
    }
}

fn checked<P: Point>(metric: &MetricRow<'_>, point: &P) -> Result<PointRow, Refusal> {
    if metric.name.is_empty() {
        return Err(Refusal::NoName);
    }
    let row = point.row()?;
    if !row.no_recorded_value {
        point.check()?;
    }
    Ok(row)
}

fn point_row(start: u64, time: u64, flags: u32, exemplars: usize) -> Result<PointRow, Refusal> {
    let time = refusal::time(time, Refusal::NoTime)?;
    let start = i64::try_from(start).ok().filter(|start| *start > 0 && *start <= time);
    Ok(PointRow { time, start, no_recorded_value: flags & NO_RECORDED_VALUE != 0, exemplars })
}

// === impl Point ===

impl Point for NumberDataPoint {
    fn row(&self) -> Result<PointRow, Refusal> {
        point_row(self.start_time_unix_nano, self.time_unix_nano, self.flags, self.exemplars.len())
    }

    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    fn check(&self) -> Result<(), Refusal> {
        self.value.map(|_| ()).ok_or(Refusal::NoValue)
    }

    fn fill(&self, columns: &mut MetricColumns, row: usize) {
        match self.value {
            Some(Value::AsInt(value)) => columns.set_integer(row, value),
            Some(Value::AsDouble(value)) => columns.set_double(row, value),
            None => {}
        }
    }
}

impl Point for HistogramDataPoint {
    fn row(&self) -> Result<PointRow, Refusal> {
        point_row(self.start_time_unix_nano, self.time_unix_nano, self.flags, self.exemplars.len())
    }

    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    fn check(&self) -> Result<(), Refusal> {
        refusal::buckets(self.bucket_counts.len(), &self.explicit_bounds)
    }

    fn fill(&self, columns: &mut MetricColumns, row: usize) {
        columns.set_distribution(row, &Distribution { count: self.count, sum: self.sum, min: self.min, max: self.max });
        columns.set_buckets(row, &self.explicit_bounds, &self.bucket_counts);
    }
}

impl Point for ExponentialHistogramDataPoint {
    fn row(&self) -> Result<PointRow, Refusal> {
        point_row(self.start_time_unix_nano, self.time_unix_nano, self.flags, self.exemplars.len())
    }

    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn fill(&self, columns: &mut MetricColumns, row: usize) {
        fn side(buckets: &Buckets) -> Side<'_> {
            Side { offset: buckets.offset, counts: &buckets.bucket_counts }
        }
        columns.set_distribution(row, &Distribution { count: self.count, sum: self.sum, min: self.min, max: self.max });
        let zero = (self.zero_count, self.zero_threshold);
        columns.set_exponential(row, self.scale, zero, self.positive.as_ref().map(side), self.negative.as_ref().map(side));
    }
}

impl Point for SummaryDataPoint {
    fn row(&self) -> Result<PointRow, Refusal> {
        point_row(self.start_time_unix_nano, self.time_unix_nano, self.flags, 0)
    }

    fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }

    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }

    fn fill(&self, columns: &mut MetricColumns, row: usize) {
        columns.set_distribution(row, &Distribution { count: self.count, sum: Some(self.sum), min: None, max: None });
        columns.set_quantiles(row, self.quantile_values.iter().map(|value| (value.quantile, value.value)));
    }
}
