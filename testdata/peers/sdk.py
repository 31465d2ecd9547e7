"""Sends a known amount of telemetry with the OpenTelemetry SDK for Python and prints what was acknowledged.

    sdk.py SERVICE PROTOCOL ENDPOINT SPANS      PROTOCOL: grpc or http/protobuf; gzip always

Prints one JSON object: {"traces": spans, "metrics": points, "logs": records, "entries": server spans}. Amounts are
counted where the exporter returned success, so that they are what the receiver took responsibility for.
"""

import json
import sys
from collections import Counter

from opentelemetry import metrics, trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter as CounterInstrument
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode


def exporters(protocol, endpoint):
    """The three exporters; the metric one reports deltas for counters and histograms."""
    temporality = {CounterInstrument: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
    if protocol == "grpc":
        from grpc import Compression
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        common = {"endpoint": endpoint, "insecure": True, "compression": Compression.Gzip}
        return (
            OTLPSpanExporter(**common),
            OTLPMetricExporter(**common, preferred_temporality=temporality),
            OTLPLogExporter(**common),
        )
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return (
        OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip),
        OTLPMetricExporter(
            endpoint=f"{endpoint}/v1/metrics", compression=Compression.Gzip, preferred_temporality=temporality
        ),
        OTLPLogExporter(endpoint=f"{endpoint}/v1/logs", compression=Compression.Gzip),
    )


def count(exporter, tally, key, size):
    """Counts what `exporter` was told is accepted."""
    export = exporter.export

    def counted(batch, *args, **kwargs):
        result = export(batch, *args, **kwargs)
        tally[key if result.name == "SUCCESS" else f"{key}_failed"] += size(batch)
        return result

    exporter.export = counted
    return exporter


def points(data):
    """Data points of a metrics export."""
    scopes = (scope for resource in data.resource_metrics for scope in resource.scope_metrics)
    return sum(len(metric.data.data_points) for scope in scopes for metric in scope.metrics)


def main():
    service, protocol, endpoint, amount = *sys.argv[1:4], int(sys.argv[4])
    tally = Counter()
    spans, meters, logs = exporters(protocol, endpoint)
    resource = Resource.create(
        {"service.name": service, "service.namespace": "peers", "service.instance.id": f"{service}-1", "k8s.namespace.name": "peers"}
    )
    tracing = TracerProvider(resource=resource)
    tracing.add_span_processor(BatchSpanProcessor(count(spans, tally, "traces", len), max_export_batch_size=64))
    tracer = tracing.get_tracer("peers", "1.0")
    for number in range(amount // 2):
        attributes = {"http.request.method": "GET", "http.route": "/things/{id}", "url.path": f"/things/{number}"}
        with tracer.start_as_current_span("GET /things/{id}", kind=SpanKind.SERVER, attributes=attributes) as server:
            server.set_attribute("peers.list", ["ä", "b"])
            link = Link(trace.SpanContext(number + 1, number + 1, is_remote=True))
            database = {"db.system.name": "sqlite", "db.operation.name": "SELECT", "server.address": "things-db"}
            with tracer.start_as_current_span("SELECT things", kind=SpanKind.CLIENT, attributes=database, links=[link]):
                pass
            if number % 10 == 0:
                server.record_exception(ValueError("out of things"))
                server.set_status(Status(StatusCode.ERROR, "out of things"))
    reader = PeriodicExportingMetricReader(count(meters, tally, "metrics", points), export_interval_millis=3_600_000)
    exponential = View(instrument_name="exponential", aggregation=ExponentialBucketHistogramAggregation())
    metering = MeterProvider([reader], resource=resource, views=[exponential])
    meter = metering.get_meter("peers", "1.0")
    counter, active = meter.create_counter("peers.counter", "1"), meter.create_up_down_counter("peers.active", "1")
    explicit, exponential = meter.create_histogram("explicit", "s"), meter.create_histogram("exponential", "s")
    meter.create_observable_gauge("peers.gauge", [lambda _options: [metrics.Observation(0.5, {"a": 1})]], "1")
    for number in range(100):
        counter.add(1, {"kind": str(number % 3)})
        active.add(1 if number % 2 else -1)
        explicit.record(number / 100, {"kind": str(number % 2)})
        exponential.record(number / 100)
    logging = LoggerProvider(resource=resource)
    logging.add_log_record_processor(SimpleLogRecordProcessor(count(logs, tally, "logs", len)))
    for number in range(3):
        logging.get_logger("peers").emit(body=f"line {number}", severity_number=SeverityNumber.INFO)
    for provider in (tracing, metering, logging):
        provider.shutdown()
    print(json.dumps({**tally, "entries": amount // 2}))


if __name__ == "__main__":
    main()
